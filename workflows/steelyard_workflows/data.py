"""Real data out of a dependency: scikit-learn's 1,797 handwritten digits, 8x8, split and hashed.

The UCI test set of "Optical Recognition of Handwritten Digits" ships inside scikit-learn, so
nothing is downloaded. The split depends on a fixed seed and on nothing else.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard_workflows.workflow import Data

CLASSES = 10
ITEM_SHAPE = (1, 8, 8)
TRAIN_ROWS, VALIDATION_ROWS = 1200, 237
"""The other 360 rows are the test split."""

SPLIT_SEED = 20240607


@dataclass(frozen=True)
class Split:
    """Rows of one purpose. ``images`` float32 [n, 1, 8, 8] in 0..1, ``labels`` int64 [n].

    ``rows`` are the positions in the source, ``sha256`` covers images and labels.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Digest of the rows as they are used, shape and type included."""
        return _digest(self.images, self.labels)


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


def load(data: Data) -> Dataset:
    """The digits, with the labelling fault that ``data.label_shift`` asks for."""
    # Here, because workers are handed the rows and need not import scikit-learn (a second each).
    from sklearn.datasets import load_digits

    source = load_digits()
    images = (source.images.astype(np.float32) / 16.0)[:, None, :, :]
    labels = (source.target.astype(np.int64) + data.label_shift) % CLASSES
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels)).astype(np.int64)

    def take(rows: NDArray[np.int64]) -> Split:
        return Split(np.ascontiguousarray(images[rows]), labels[rows], rows)

    judged_from = TRAIN_ROWS + VALIDATION_ROWS
    return Dataset(
        take(order[:TRAIN_ROWS]), take(order[TRAIN_ROWS:judged_from]), take(order[judged_from:])
    )


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
