"""Rows to learn from: inputs and labels in three disjoint splits, each with its digest."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
