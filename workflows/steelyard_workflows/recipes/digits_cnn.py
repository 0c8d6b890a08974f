"""A small convolutional network on scikit-learn's 8x8 handwritten digits: seconds on two CPUs.

The UCI test set of "Optical Recognition of Handwritten Digits" ships inside scikit-learn, so
nothing is downloaded. The split depends on a fixed seed and on nothing else.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.workflow import (
    Checkpoints,
    EarlyStopping,
    Failure,
    Scaling,
    Train,
    Workflow,
)

CLASSES = 10
TRAIN_ROWS, VALIDATION_ROWS = 1200, 237
"""The other 360 rows are the test split."""
SPLIT_SEED = 20240607


class DigitsCnn(nn.Module):
    """Logits for ten digits from one 8x8 picture: two convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, CLASSES),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 1, 8, 8] in 0..1 to [n, 10]."""
        logits: torch.Tensor = self.layers(pictures)
        return logits


def digits(workflow: Workflow) -> Dataset:
    """The digits, with the labelling fault that ``data.label_shift`` asks for."""
    # Here, because workers are handed the rows and need not import scikit-learn (a second each).
    from sklearn.datasets import load_digits

    source = load_digits()
    images = (source.images.astype(np.float32) / 16.0)[:, None, :, :]
    labels = (source.target.astype(np.int64) + workflow.data.label_shift) % CLASSES
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels)).astype(np.int64)

    def take(rows: NDArray[np.int64]) -> Split:
        return Split(np.ascontiguousarray(images[rows]), labels[rows], rows)

    judged_from = TRAIN_ROWS + VALIDATION_ROWS
    return Dataset(
        take(order[:TRAIN_ROWS]), take(order[TRAIN_ROWS:judged_from]), take(order[judged_from:])
    )


def digits_cnn() -> Recipe:
    """151,306 parameters, at most 12 epochs of 1,200 examples, two workers."""
    workflow = Workflow(
        model="digits",
        recipe="digits_cnn",
        train=Train(epochs=12, batch_size=64, learning_rate=2e-3, seed=0),
        scaling=Scaling(workers=2, cpus_per_worker=1),
        checkpoints=Checkpoints(every=1, keep=2),
        early_stopping=EarlyStopping(patience=3, min_delta=0.002),
        failure=Failure(max_retries=1),
    )
    return Recipe(workflow, digits, lambda _: DigitsCnn())
