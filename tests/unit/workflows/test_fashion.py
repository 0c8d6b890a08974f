"""Fashion-MNIST's files: read as they are published, refused when they are something else."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from steelyard.domain.errors import InvalidInput
from steelyard_workflows.data import load
from steelyard_workflows.recipes import fashion
from steelyard_workflows.recipes.fashion_mlp import fashion_mlp
from steelyard_workflows.workflow import Data, Workflow


def idx(path: Path, magic: int, shape: tuple[int, ...], values: bytes) -> None:
    """Write an IDX file as its authors define it."""
    numbers = (magic, *shape)
    path.write_bytes(gzip.compress(b"".join(n.to_bytes(4, "big") for n in numbers) + values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures to learn from and ten to judge, as the package has them."""
    draw = np.random.default_rng(5)
    for part, count in (("train", 40), ("t10k", 10)):
        pictures = draw.integers(0, 256, count * 784, np.uint8).tobytes()
        idx(tmp_path / f"{part}-images-idx3-ubyte.gz", 2051, (count, 28, 28), pictures)
        labels = bytes(n % 10 for n in range(count))
        idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", 2049, (count,), labels)
    return tmp_path


def workflow(folder: Path) -> Workflow:
    """The recipe's, with the files of a folder."""
    data = Data(options={"folder": str(folder)})
    return fashion_mlp().workflow.model_copy(update={"data": data})


def test_the_files_become_pictures_in_three_splits(folder: Path) -> None:
    """The package's test rows judge; of its training rows the last tenth chooses."""
    found = load(fashion.clothes, workflow(folder))
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 36, "validation": 4, "test": 10,
    }  # fmt: skip
    assert found.train.inputs.shape[1:] == (1, 28, 28)
    assert found.train.inputs.min() >= 0 and found.train.inputs.max() == 1
    assert found.test.labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train-images-idx3-ubyte.gz", None, "No such file"),
        ("train-images-idx3-ubyte.gz", b"no archive", "cannot be read"),
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(b"\0\0\x08\x03"), "not an IDX file"),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(b"\0\0\x08\x01\0\0\0\x0a\0"),
            "broken off",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(b"\0\0\x08\x01\0\0\0\x01\0"),
            "10 pictures and 1 labels",
        ),
    ],
    ids=["missing", "no archive", "other magic", "broken off", "fewer labels"],
)
def test_files_that_are_something_else_are_refused(
    folder: Path, name: str, content: bytes | None, says: str
) -> None:
    """What is wrong with which file, and how to get the right ones."""
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=says) as caught:
        load(fashion.clothes, workflow(folder))
    assert "dataset-fashion-mnist" in str(caught.value.hint)
