"""When training and validation part, which epoch was the best, and the picture of both."""

import math
from pathlib import Path

import pytest

from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.tracking import curves
from steelyard_workflows.tracking.overfitting import Point, history, parting
from steelyard_workflows.tracking.run_report import best_epoch
from steelyard_workflows.workflow_file import parse

OVERFITTED = [
    Point(1, 0.9, 0.8, 0.60), Point(2, 0.5, 0.6, 0.70), Point(3, 0.3, 0.7, 0.75),
    Point(4, 0.2, 0.8, 0.74), Point(5, 0.1, 0.9, 0.73),
]  # fmt: skip
"""Validation loss is best at epoch 2, accuracy at epoch 3."""


def test_they_part_at_the_best_epoch() -> None:
    """Three epochs without an improvement, while the training loss went on falling."""
    found = parting(OVERFITTED, patience=3)
    assert found is not None
    assert (found.best.epoch, found.last.epoch) == (2, 5)
    assert str(found) == (
        "epoch 2: until epoch 5 the training loss fell from 0.500 to 0.100, "
        "the validation loss went from 0.600 to 0.900"
    )


@pytest.mark.parametrize(
    ("points", "patience", "min_delta"),
    [
        (OVERFITTED, 4, 0.0),
        ([Point(n, 0.5 - n / 100, 0.5 + n / 10) for n in range(1, 6)], 3, 0.05),
        ([Point(n, 0.5, 0.5 + n / 10) for n in range(1, 6)], 3, 0.0),
        ([Point(n, 1 / n, 1 / n) for n in range(1, 9)], 3, 0.0),
        ([*OVERFITTED, Point(6, 0.1, 0.5)], 3, 0.0),
        ([Point(1, math.nan, math.nan)], 1, 0.0),
        ([], 1, 0.0),
    ],
    ids=["too soon", "fell too little", "training stood still", "both fall", "recovered", "nan",
         "nothing"],
)  # fmt: skip
def test_they_did_not_part(points: list[Point], patience: int, min_delta: float) -> None:
    """No alarm without both halves of the rule."""
    assert parting(points, patience, min_delta) is None


def test_an_improvement_below_min_delta_is_none() -> None:
    """As early stopping sees it."""
    creeping = [Point(n, 1 / n, 0.5 - n / 1000) for n in range(1, 6)]
    found = parting(creeping, patience=3, min_delta=0.01)
    assert found is not None and found.best.epoch == 1


def test_an_epoch_that_was_done_twice_counts_as_it_was_last() -> None:
    """The second attempt repeats what the first one lost."""

    def report(attempt: int, epoch: int, loss: float) -> Entry:
        values = {"epoch": epoch, "train_loss": loss, "validation_loss": loss}
        return Entry("report", attempt, epoch, None, values)

    entries = [Entry("attempt_started", 1, 0), report(1, 1, 0.9), report(1, 2, 0.8),
               Entry("attempt_ended", 1, 3, "failed"), report(2, 2, 0.7)]  # fmt: skip
    assert history(entries) == [Point(1, 0.9, 0.9), Point(2, 0.7, 0.7)]


@pytest.mark.parametrize(
    ("rule", "epoch"),
    [
        ("early_stopping: {metric: validation_loss, mode: min}", 2),
        ("early_stopping: {metric: validation_accuracy, mode: max}", 3),
        ("checkpoints: {every: 4}", 4),
    ],
)
def test_the_best_epoch_is_one_that_was_kept(rule: str, epoch: int) -> None:
    """By the watched metric, among the epochs with a checkpoint."""
    workflow = parse(f"recipe: digits_cnn\n{rule}\n")
    assert best_epoch(OVERFITTED, workflow) == epoch


def test_the_picture_is_there_twice_and_always_the_same(tmp_path: Path) -> None:
    """PNG and SVG; the SVG names what it shows."""
    drawn = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        parted = parting(OVERFITTED, 3)
        drawn.append(curves.draw(OVERFITTED, "digits", folder, 2, parted))
    for first, second in zip(*drawn, strict=True):
        assert first.read_bytes() == second.read_bytes()
    png, svg = drawn[0]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text(encoding="utf-8").startswith("<?xml")


def test_a_picture_of_one_epoch_without_accuracy(tmp_path: Path) -> None:
    """A run that ended early has a picture too."""
    assert curves.draw([Point(1, 0.5, math.nan)], "gpt", tmp_path, None, None)
