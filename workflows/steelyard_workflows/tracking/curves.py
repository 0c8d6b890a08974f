"""Learning curves as a picture: losses, accuracy, the best epoch, and where they parted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard_workflows.tracking.overfitting import Parting, Point, best

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
SIZE_IN = (8.0, 4.5)
DPI = 120


def draw(
    points: Sequence[Point], title: str, into: Path, chosen: int | None, parted: Parting | None
) -> list[Path]:
    """Write ``learning_curves.png`` and ``.svg``; the same points make the same bytes.

    ``chosen`` is the epoch whose weights were kept; without it, that of the best validation loss.
    """
    # Here, because it takes a second; a figure of one's own needs no display and no global state.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "steelyard", "font.size": 9}):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        figure.suptitle(title)
        _losses(loss, points, parted)
        _accuracy(accuracy, points)
        turn = best(points)
        marked = chosen if chosen is not None or turn is None else turn.epoch
        for axes in (loss, accuracy):
            _frame(axes, marked)
        paths = [into / f"learning_curves.{kind}" for kind in FORMATS]
        for path in paths:
            stamp = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(path, dpi=DPI, metadata=stamp)
    return paths


def _losses(axes: "Axes", points: Sequence[Point], parted: Parting | None) -> None:
    epochs = [p.epoch for p in points]
    axes.plot(epochs, [p.train_loss for p in points], marker=".", label="training")
    axes.plot(epochs, [p.validation_loss for p in points], marker=".", label="validation")
    if parted is not None:
        axes.axvspan(parted.best.epoch, parted.last.epoch, alpha=0.12, color="tab:red",
                     label="training and validation part")  # fmt: skip
    axes.set_title("Loss")


def _accuracy(axes: "Axes", points: Sequence[Point]) -> None:
    known = [(p.epoch, p.accuracy) for p in points if p.accuracy is not None]
    axes.plot([epoch for epoch, _ in known], [value for _, value in known], marker=".",
              color="tab:orange", label="validation")  # fmt: skip
    axes.set_title("Accuracy")


def _frame(axes: "Axes", marked: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if marked is not None:
        axes.axvline(marked, color="grey", linestyle="--", linewidth=1, label=f"best: {marked}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(loc="best")
