"""Rows to learn from: inputs and labels in three disjoint splits, each with its digest.

``load`` is the way from a recipe to rows that were checked: what cannot be learned from is
refused before anything is started.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.workflow import Workflow

INPUT_TYPES = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool")
"""What a network can take and a replica can serve."""


@dataclass(frozen=True)
class Split:
    """Rows of one purpose: ``inputs`` [n, ...], ``labels`` int64 [n, ...].

    ``rows`` are the positions in the source, ``sha256`` covers inputs and labels.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Digest of the rows as they are used, shape and type included."""
        return _digest(self.inputs, self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits: learn, choose, judge."""

    train: Split
    validation: Split
    test: Split

    @property
    def sha256(self) -> str:
        """Digest over the digests of the splits."""
        parts = (self.train.sha256, self.validation.sha256, self.test.sha256)
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def splits(self) -> dict[str, Split]:
        """The three by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def divide(
    inputs: NDArray[Any], labels: NDArray[np.int64], purpose: NDArray[np.integer[Any]]
) -> Dataset:  # fmt: skip
    """Three splits of one table; ``purpose`` says of each row 0 train, 1 validation, 2 test."""

    def take(number: int) -> Split:
        rows = np.flatnonzero(purpose == number).astype(np.int64)
        return Split(np.ascontiguousarray(inputs[rows]), labels[rows], rows)

    return Dataset(take(0), take(1), take(2))


def shifted(labels: NDArray[np.int64], workflow: Workflow, classes: int) -> NDArray[np.int64]:
    """The labels with the fault that ``data.label_shift`` asks for; none by default."""
    return (labels + workflow.data.label_shift) % classes


def load(source: Callable[[Workflow], Dataset], workflow: Workflow) -> Dataset:
    """What a recipe's data function gives, checked.

    Raises:
        InvalidInput: the data is missing, or cannot be learned from; every fault is named.
    """
    where = f"data of {workflow.recipe}"
    try:
        dataset = source(workflow)
    except (OSError, ImportError) as error:
        fault = Fault(where, f"cannot be read: {type(error).__name__}: {error}")
        raise InvalidInput(str(fault), (fault,)) from error
    if not isinstance(dataset, Dataset):
        fault = Fault(where, f"must be a Dataset, found {type(dataset).__name__}")
        raise InvalidInput(str(fault), (fault,), "See steelyard_workflows.data.")
    check(dataset, where)
    return dataset


def check(dataset: Dataset, name: str = "data") -> None:
    """Refuse rows that nothing can be learned from.

    Raises:
        InvalidInput: a split is empty, its arrays do not fit together, an input is NaN or
            infinite, or a label is no whole number from 0.
    """
    faults = [fault for part, split in dataset.splits.items() for fault in _faults(part, split)]
    if not faults:
        faults = list(_differences(dataset))
    if faults:
        raise InvalidInput(f"The {name} cannot be learned from.", tuple(faults))


def faults_of(name: str, split: Split, like: Split) -> list[Fault]:
    """What makes rows useless beside those that are learned from; empty when nothing does."""
    return list(_faults(name, split)) or list(_unlike(name, split, like))


def _faults(part: str, split: Split) -> Iterator[Fault]:
    arrays = {name: getattr(split, name) for name in ("inputs", "labels", "rows")}
    strange = {n: type(a).__name__ for n, a in arrays.items() if not isinstance(a, np.ndarray)}
    if strange:
        for name, kind in strange.items():
            yield Fault(f"{part}.{name}", f"must be a numpy array, found {kind}")
        return
    counts = {len(split.inputs), len(split.labels), len(split.rows)}
    if len(counts) > 1:
        yield Fault(part, f"inputs, labels and rows have different lengths: {sorted(counts)}")
    elif counts == {0}:
        yield Fault(part, "is empty")
    else:
        yield from _input_faults(f"{part}.inputs", split.inputs)
        yield from _label_faults(f"{part}.labels", split.labels)


def _input_faults(where: str, inputs: NDArray[Any]) -> Iterator[Fault]:
    if inputs.dtype.name not in INPUT_TYPES:
        yield Fault(where, f"must be one of {', '.join(INPUT_TYPES)}, found {inputs.dtype}")
    elif inputs.dtype.kind == "f":
        yield from _not_finite(where, inputs)


def _label_faults(where: str, labels: NDArray[Any]) -> Iterator[Fault]:
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        yield from _not_finite(where, labels)
    elif labels.dtype != np.int64:
        yield Fault(where, f"must be int64, found {labels.dtype}")
    elif labels.min() < 0:
        rows = _rows_where(labels < 0)
        yield Fault(where, f"are classes from 0, found {labels.min()} in {_named(rows)}")


def _not_finite(where: str, values: NDArray[Any]) -> Iterator[Fault]:
    rows = _rows_where(~np.isfinite(values))
    if len(rows):
        yield Fault(where, f"hold NaN or infinity in {_named(rows)}")


def _rows_where(wrong: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1)).astype(np.int64)


def _named(rows: NDArray[np.int64]) -> str:
    """How many rows, and which the first is."""
    return f"row {rows[0]}" if len(rows) == 1 else f"{len(rows)} rows, the first is {rows[0]}"


def _differences(dataset: Dataset) -> Iterator[Fault]:
    for part, split in dataset.splits.items():
        yield from _unlike(part, split, dataset.train)


def _unlike(part: str, split: Split, train: Split) -> Iterator[Fault]:
    """What these rows are, that training rows are not."""
    for name in ("inputs", "labels"):
        own, wanted = getattr(split, name), getattr(train, name)
        if (own.dtype, own.shape[1:]) != (wanted.dtype, wanted.shape[1:]):
            yield Fault(
                f"{part}.{name}",
                f"are {own.dtype}{list(own.shape[1:])}, "
                f"those of train {wanted.dtype}{list(wanted.shape[1:])}",
            )


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
