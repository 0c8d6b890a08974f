"""Where every trial of a sweep stands, and which is the best: values and pure functions."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from steelyard_workflows.sweeps.plan import Trial
from steelyard_workflows.workflow import EarlyStopping

State = Literal["running", "finished", "stopped", "failed", "cancelled", "left out"]
JUDGED: tuple[State, ...] = ("finished", "stopped")
"""States of trials that have a checkpoint to choose from."""
COLUMNS = ("trial", "values", "state", "Epoch", "Best", "run")


@dataclass(frozen=True, slots=True)
class Standing:
    """One trial: how far it is, its best value of the watched metric and that value's epoch.

    ``checkpoint`` is the best one's folder, once the trial has ended well. ``reason`` says why it
    ended before its time. ``run_id`` is None before it has a run.
    """

    trial: Trial
    state: State = "running"
    run_id: str | None = None
    epoch: int = 0
    value: float | None = None
    best_epoch: int | None = None
    checkpoint: str | None = None
    reason: str | None = None


def after(standing: Standing, said: Mapping[str, Any], rule: EarlyStopping) -> Standing:
    """Where a trial stands once it has said something: its run, an epoch, or its end."""
    if "state" in said:
        ended = {key: said[key] for key in ENDED if key in said}
        return replace(standing, **ended)
    if "epoch" not in said:
        return replace(standing, run_id=said["run_id"])
    value, epoch = float(said[rule.metric]), int(said["epoch"])
    if not better(value, standing.value, rule):
        return replace(standing, epoch=epoch)
    return replace(standing, epoch=epoch, value=value, best_epoch=epoch)


ENDED = ("state", "run_id", "value", "best_epoch", "checkpoint", "reason")


def better(value: float, than: float | None, rule: EarlyStopping) -> bool:
    """Whether a value is a number, and better than another one or the first.

    >>> better(0.5, 0.6, EarlyStopping()), better(math.nan, None, EarlyStopping())
    (True, False)
    """
    if not math.isfinite(value):
        return False
    return than is None or (value > than if rule.mode == "max" else value < than)


def best(standings: Iterable[Standing], rule: EarlyStopping) -> Standing | None:
    """The trial whose best checkpoint wins; of equal ones the first. None when none has one."""
    found: Standing | None = None
    for one in standings:
        if one.state not in JUDGED or one.value is None or one.checkpoint is None:
            continue
        if better(one.value, None if found is None else found.value, rule):
            found = one
    return found


def line(standing: Standing, of: int, epochs: int, rule: EarlyStopping) -> str:
    """A trial in a line of progress."""
    told = f"  trial {standing.trial.number} of {of} ({standing.trial.words()}): {standing.state}"
    if standing.epoch:
        told += f", epoch {standing.epoch}/{epochs}"
    if standing.value is not None:
        told += f", best {rule.metric} {standing.value:.4f}"
    return f"{told}; {standing.reason}" if standing.reason else told


def rows(standings: Sequence[Standing]) -> list[tuple[object, ...]]:
    """The table of a sweep."""
    return [
        (one.trial.number, one.trial.words(), one.state, one.epoch or None,
         None if one.value is None else f"{one.value:.4f}", one.run_id)
        for one in standings
    ]  # fmt: skip
