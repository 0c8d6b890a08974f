"""When training and validation loss part: the rule, and the points that it judges."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steelyard_workflows.booking.journal import Entry


@dataclass(frozen=True, slots=True)
class Point:
    """What one epoch reported; ``accuracy`` is the validation split's, None when not reported."""

    epoch: int
    train_loss: float
    validation_loss: float
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Parting:
    """From ``best`` to ``last``, training went on to get better and validation did not."""

    best: Point
    last: Point

    def __str__(self) -> str:
        return (
            f"epoch {self.best.epoch}: until epoch {self.last.epoch} the training loss fell from "
            f"{self.best.train_loss:.3f} to {self.last.train_loss:.3f}, the validation loss went "
            f"from {self.best.validation_loss:.3f} to {self.last.validation_loss:.3f}"
        )


def history(entries: Iterable[Entry]) -> list[Point]:
    """The points of a journal by epoch; an epoch that was done twice counts as it was last."""
    found = {}
    for entry in entries:
        values = entry.metrics
        if entry.event == "report" and {"epoch", "train_loss", "validation_loss"} <= values.keys():
            epoch = int(values["epoch"])
            found[epoch] = Point(epoch, values["train_loss"], values["validation_loss"],
                                 values.get("validation_accuracy"))  # fmt: skip
    return [found[epoch] for epoch in sorted(found)]


def best(points: Sequence[Point], min_delta: float = 0.0) -> Point | None:
    """The epoch after which the validation loss never fell by more than ``min_delta``."""
    found: Point | None = None
    for point in points:
        if not math.isfinite(point.validation_loss):
            continue
        if found is None or point.validation_loss < found.validation_loss - min_delta:
            found = point
    return found


def parting(points: Sequence[Point], patience: int, min_delta: float = 0.0) -> Parting | None:
    """Where training and validation parted for good; None when they did not.

    They did when the validation loss has not improved for ``patience`` epochs while the training
    loss went on falling by more than ``min_delta``.

    >>> parting([Point(1, 0.5, 0.6), Point(2, 0.3, 0.7), Point(3, 0.1, 0.9)], 2).best.epoch
    1
    >>> parting([Point(1, 0.5, 0.6), Point(2, 0.5, 0.7), Point(3, 0.5, 0.9)], 2) is None
    True
    """
    turn = best(points, min_delta)
    if turn is None:
        return None
    last = points[-1]
    fell = last.train_loss < turn.train_loss - min_delta
    return Parting(turn, last) if last.epoch - turn.epoch >= patience and fell else None
