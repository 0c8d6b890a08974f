"""A small trained network and its exported file, made once."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.learning import learn
from torch import nn

from steelyard_workflows.data import Dataset
from steelyard_workflows.export import Artifact, export
from steelyard_workflows.recipes.digits_cnn import digits_cnn

StartBeside = Callable[[str, str], Path]


@pytest.fixture
def start_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartBeside]:
    """Makes the folder that one starts in, with a module of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = []

    def write(name: str, text: str) -> Path:
        names.append(name)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return tmp_path

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The real data set without a fault."""
    recipe = digits_cnn()
    return recipe.data(recipe.workflow)


@pytest.fixture(scope="session")
def network(digits: Dataset) -> nn.Module:
    """A network after a few epochs: good enough that its answers mean something."""
    torch.set_num_threads(1)
    recipe = digits_cnn()
    made = recipe.build(recipe.workflow)
    learn(made, digits.train, epochs=5)
    return made


@pytest.fixture(scope="session")
def exported(
    network: nn.Module, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Artifact]:  # fmt: skip
    """The network as an ONNX file."""
    folder: Path = tmp_path_factory.mktemp("exported")
    yield export(network, digits.test.inputs, folder)
