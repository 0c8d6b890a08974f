"""Two calls for a torch loop of the user's own: ``report`` figures, ``checkpoint`` a network.

Under ``steelyard run`` they write to the folder that the command watches; the command meters the
process, tracks what was reported, and registers what was kept. Anywhere else they check what they
are given, say so once, and do nothing.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from steelyard.cli.output import note
from steelyard.domain.errors import InvalidInput
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.booking.metering import now_us
from steelyard_workflows.user_code import figures
from steelyard_workflows.user_code.session import FOLDER

if TYPE_CHECKING:
    from torch import nn

    from steelyard_workflows.user_code.keeping import Kept, Test

LINES = "plain.jsonl"
"""What a loop has said, in the folder of its session."""
Mode = Literal["max", "min"]


class Loop:
    """What this process has said. ``folder`` is None where nobody listens."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.pid = os.getpid()
        self.last: figures.Numbers = {}
        self.kept: Kept | None = None
        self._reports = 0

    def report(self, values: figures.Numbers) -> None:
        """Remember the figures, and write them down."""
        self.last = {**self.last, **values}
        self._reports += 1
        if self._reports <= figures.MOST_REPORTS:
            self.say(Entry("report", 1, now_us(), None, values))
        elif self._reports == figures.MOST_REPORTS + 1:
            note(f"Steelyard: only the first {figures.MOST_REPORTS:,} reports are tracked")

    def say(self, entry: Entry) -> None:
        """Write a line, where somebody reads it."""
        if self.folder is not None:
            journal.append(self.folder / LINES, entry)


_loop: Loop | None = None


def report(**metrics: Any) -> None:
    """Track the figures of one step or epoch.

    Each value is one number. The point on the curve is the report's ``step``, else its ``epoch``,
    else its own number. ``items`` and ``flop``, whole numbers, say what was computed since the
    last report, for the ledger.

    Raises:
        InvalidInput: a value is no number, or a name cannot be tracked; every fault is named.
    """
    values, faults = figures.numbers(metrics)
    if faults:
        # In the message as well: a script has nobody who prints the faults.
        named = "; ".join(map(str, faults))
        raise InvalidInput(f"The report cannot be tracked: {named}", tuple(faults))
    loop = _mine()
    if loop is not None:
        loop.report(values)


def checkpoint(
    network: "nn.Module",
    example_inputs: Any,
    test: "Test | None" = None,
    *,
    metric: str | None = None,
    mode: Mode | None = None,
    train: Any = None,
) -> None:
    """Keep the network's weights as they are now; what was kept becomes a version at a clean end.

    The best weights stay: those with the ``mode`` (max or min) of a ``metric`` that was reported,
    else the last ones. ``example_inputs`` are rows that the network takes. ``test`` is (inputs,
    labels) that it has not learned from: without them the version has no evidence, and takes no
    traffic. ``train`` are the inputs that it learned from, all of them: their ranges become the
    version's training envelope; without them nothing is known of it.

    Raises:
        InvalidInput: the network does not take these rows or gives no logits [n, ..., classes],
            the test or training rows do not fit, or the metric was not reported.
    """
    # Here, so that a loop that only reports stays light.
    from steelyard_workflows.user_code.keeping import Kept

    loop = _mine()
    if loop is None:
        return
    kept = loop.kept or Kept()
    if kept.offer(network, example_inputs, test, _score(loop.last, metric, mode), train):
        loop.kept = kept
        if loop.folder is not None:
            kept.write(loop.folder, loop.say)


def _score(
    last: Mapping[str, float], metric: str | None, mode: Mode | None
) -> tuple[float, Mode] | None:
    """The value to choose by and what is better of it; None to choose the last."""
    if metric is None:
        return None
    if mode not in ("max", "min"):
        raise InvalidInput(f"Is a high or a low {metric} better? Give mode='max' or mode='min'.")
    if metric not in last:
        known = ", ".join(sorted(last)) or "none"
        raise InvalidInput(f"No {metric} was reported to choose a checkpoint by; there is: {known}")
    return last[metric], mode


def _mine() -> Loop | None:
    """What this process says; None where another one speaks: of several ranks, the first does."""
    global _loop  # a process has one loop, and the two calls are functions for three-line changes
    if os.environ.get("RANK", "0") != "0" or _in_ray_worker():
        return None
    if _loop is None:
        folder = os.environ.get(FOLDER)
        if not folder:
            note("Steelyard: not under `steelyard run`, so nothing is tracked, metered or kept")
        _loop = Loop(Path(folder) if folder else None)
    return _loop if _loop.pid == os.getpid() else None


def _in_ray_worker() -> bool:
    """Ray Train's workers report to Ray, which hands it on."""
    ray = sys.modules.get("ray")
    return (
        ray is not None
        and ray.is_initialized()
        and ray.get_runtime_context().get_actor_id() is not None
    )
