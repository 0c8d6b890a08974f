"""Recipes of the user's own: found in the folder that one starts in, or named with their fault."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import steelyard_workflows
from steelyard.cli.app import run
from steelyard.domain.errors import InvalidInput
from steelyard_workflows import from_torch
from steelyard_workflows.workflow_file import load, parse

from .conftest import StartBeside

RECIPE = """
from steelyard_workflows import Recipe, Train, Workflow

def mine():
    return Recipe(Workflow(model="mine", recipe="unnamed", train=Train(
        epochs=7, batch_size=8, learning_rate=0.1)), None, None)

def wrong():
    return 42

def broken():
    raise RuntimeError("my own fault")
"""


@pytest.fixture
def folder(start_beside: StartBeside) -> Path:
    """The folder that one starts in, with a module of one's own."""
    return start_beside("own_recipes", RECIPE)


def test_a_file_overrides_ones_own_recipe(folder: Path) -> None:
    """Like one that is built in."""
    found = parse("recipe: own_recipes:mine\ntrain: {epochs: 2}\n")
    assert (found.model, found.recipe) == ("mine", "own_recipes:mine")
    assert (found.train.epochs, found.train.batch_size) == (2, 8)


def test_ones_own_recipe_is_named_without_a_file(folder: Path) -> None:
    """``steelyard train own_recipes:mine``; the workflow knows where it came from."""
    found = load("own_recipes:mine")
    assert (found.recipe, found.train.epochs) == ("own_recipes:mine", 7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("own_recipes:mien", "has no attribute 'mien'"),
        ("own_recipes:wrong", "returns int, not a steelyard_workflows Recipe"),
        ("own_recipes:broken", "RuntimeError: my own fault"),
        ("no_such_module:mine", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_recipe_that_does_not_import_is_named_with_its_line(
    folder: Path, name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user's own error is shown, nothing is started, and the exit code is 2."""
    (folder / "own.yaml").write_text(f"model: mine\nrecipe: {name}\n", encoding="utf-8")
    assert run(["train", "own.yaml"]) == 2
    shown = capsys.readouterr().err
    assert "line 2: recipe:" in shown and expected in shown


class Points(Dataset[tuple[torch.Tensor, int]]):
    """A torch dataset as people write it."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(row)), row % 2


class Stream(IterableDataset[tuple[torch.Tensor, int]]):
    """One without a length."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        return iter(())


def test_torch_datasets_become_rows() -> None:
    """Inputs keep their type, labels are int64, and the three count as disjoint."""
    found = from_torch(Points(), Points(), TensorDataset(torch.zeros(4, 2), torch.ones(4)))
    assert found.train.inputs.dtype == np.float32 and found.train.inputs.shape == (3, 2)
    assert found.train.labels.tolist() == [0, 1, 0] and found.test.labels.dtype == np.int64
    rows = [*found.train.rows, *found.validation.rows, *found.test.rows]
    assert rows == list(range(10))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TensorDataset(torch.zeros(0, 2), torch.zeros(0)), "validation: is empty"),
        (Stream(), "validation: is empty, or is a stream"),
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], "rows do not fit together"),
    ],
)
def test_a_dataset_that_gives_no_rows_is_named(source: Dataset[object], expected: str) -> None:
    """Before anything is started."""
    with pytest.raises(InvalidInput, match=expected):
        from_torch(Points(), source, Points())


def test_every_exported_name_is_there_and_others_are_not() -> None:
    """``from steelyard_workflows import Workflow, Recipe``."""
    found = {name: getattr(steelyard_workflows, name) for name in steelyard_workflows.__all__}
    assert sorted(found) == steelyard_workflows.__all__ == sorted(steelyard_workflows.MODULES)
    with pytest.raises(AttributeError, match="no attribute 'Wrkflow'"):
        _ = steelyard_workflows.Wrkflow
