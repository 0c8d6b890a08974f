"""A small trained network and its exported file, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from steelyard_workflows.data import Dataset
from steelyard_workflows.export import Artifact, export
from steelyard_workflows.recipes.digits_cnn import digits_cnn


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
    optimizer = torch.optim.Adam(made.parameters(), lr=2e-3)
    images, labels = torch.from_numpy(digits.train.inputs), torch.from_numpy(digits.train.labels)
    for epoch in range(5):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(64):
            loss = nn.functional.cross_entropy(made(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return made


@pytest.fixture(scope="session")
def exported(
    network: nn.Module, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Artifact]:  # fmt: skip
    """The network as an ONNX file."""
    folder: Path = tmp_path_factory.mktemp("exported")
    yield export(network, digits.test.inputs, folder)
