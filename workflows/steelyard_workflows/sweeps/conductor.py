"""What a sweep does about its trials while they run: listens, adds up, ends and cancels them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.cli.output import note
from steelyard_workflows.sweeps import board
from steelyard_workflows.sweeps.board import Standing
from steelyard_workflows.sweeps.plan import Trial
from steelyard_workflows.training.cancel import cancel
from steelyard_workflows.training.limits import Spent, exceeded
from steelyard_workflows.training.spending import told
from steelyard_workflows.training.stop import STOP_FILE, raise_sign
from steelyard_workflows.workflow import Workflow

LOST_AFTER_S = 2.0
"""A controller outlives the process that drove it for a moment."""


class Conductor:
    """Speaks to trials through signs in their runs' folders; hears them through Ray Tune.

    ``closed`` is called for a trial whose process is gone, to book what it left open. ``ending``
    says why no trial is started any more.
    """

    def __init__(
        self, workflow: Workflow, trials: Sequence[Trial], folder: Path, sweep_id: str,
        closed: Callable[[Standing], None],
    ) -> None:  # fmt: skip
        self._rule, self._limits = workflow.early_stopping, workflow.limits
        self._folder, self._sweep_id, self._closed = folder, sweep_id, closed
        self._began = time.monotonic()
        self._standings = {trial.number: Standing(trial, "left out") for trial in trials}
        self._lost: dict[int, float] = {}
        self._signed: set[str] = set()
        self._winding_up = False
        self.ending: str | None = None
        self.cancelled = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray Tune saves what it is given, to restore a sweep by. Ours is not; it holds settings.
        return (object, ())

    @property
    def standings(self) -> list[Standing]:
        """All trials, by number."""
        return list(self._standings.values())

    def start(self, number: int) -> None:
        """A trial is about to start."""
        self._standings[number] = Standing(self._standings[number].trial)

    def hear(self, number: int, said: Mapping[str, Any]) -> None:
        """A trial has said something: take it in, and tell people what changed."""
        before = self._standings[number]
        now = self._standings[number] = board.after(before, said, self._rule)
        if now.state != before.state or now.epoch != before.epoch:
            epochs = now.trial.workflow.train.epochs
            note(board.line(now, len(self._standings), epochs, self._rule))

    def lose(self, number: int, reason: str) -> None:
        """A trial's process has ended without a word."""
        state = "cancelled" if self.cancelled else "failed"
        self.hear(number, {"state": state, "reason": reason})
        self._lost[number] = time.monotonic()

    def end(self, number: int, reason: str) -> None:
        """Ask a trial to stop with a checkpoint; what it cost stays."""
        one = self._standings[number]
        if one.state == "running" and one.run_id is not None and one.run_id not in self._signed:
            self._signed.add(one.run_id)
            raise_sign(self._folder / one.run_id / STOP_FILE, reason)

    def interrupt(self) -> None:
        """Ctrl-C: break all trials off, start none. Safe in a signal handler: acts later."""
        self.cancelled = True
        self.ending = "its trials are cancelled; Ctrl-C again does not wait for them"

    def look(self) -> None:
        """See to limits, Ctrl-C and lost trials; to be called all the time."""
        if self.ending is None:
            self.ending = exceeded(self._limits, self.spent())
        if self.ending is not None:
            self._wind_up(self.ending)
        now = time.monotonic()
        for number in [n for n, at in self._lost.items() if now - at >= LOST_AFTER_S]:
            self.close(number)

    def _wind_up(self, ending: str) -> None:
        """Start no trial, and see that those that run end: also one that was just starting."""
        if not self._winding_up:
            self._winding_up = True
            note(f"The sweep ends: {ending}")
            raise_sign(self._folder / self._sweep_id / STOP_FILE, ending)
        for one in self.standings:
            if one.state == "running" and one.run_id is not None and self.cancelled:
                cancel(self._folder / one.run_id)
            else:
                self.end(one.trial.number, f"the sweep's {ending}")

    def spent(self) -> Spent:
        """What the whole sweep has taken: wall time since it began, the sums of its trials."""
        known = [told(self._folder / one.run_id) for one in self.standings if one.run_id]
        return Spent(
            time.monotonic() - self._began,
            _sum([one.cost_usd for one in known if one]),
            _sum([one.energy_kwh for one in known if one]),
        )

    def close(self, number: int) -> None:
        """Book what a lost trial left open."""
        del self._lost[number]
        self._closed(self._standings[number])

    def close_all(self) -> None:
        """After the last trial: none is running any more, whatever it has said."""
        for one in self.standings:
            if one.state == "running":
                self.lose(one.trial.number, "its process was ended")
        for number in list(self._lost):
            self.close(number)


def _sum(amounts: list[float | None]) -> float | None:
    known = [one for one in amounts if one is not None]
    return sum(known) if known else None
