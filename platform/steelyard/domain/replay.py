"""What another plan would have said of a rollout, from the intervals that were kept of it.

Weights and times of steps are history: another plan would have moved other traffic. So it is only
told when its metrics and chances would have spoken, on the traffic that there was. The guard and
the check that units agree look at single answers, which are not kept with the intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.domain.analysis import (
    GRADED,
    Judgement,
    Metric,
    MetricName,
    ln_e_bad_so_far,
    ln_e_good_so_far,
)
from steelyard.domain.e_process import Counts, Interval
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.rollout_plan import Plan

Outcome = Literal["rolled back", "paused", "proven", "undecided"]


@dataclass(frozen=True, slots=True)
class Kept:
    """An interval of a metric, and when it became known (microseconds since 1970)."""

    metric: MetricName
    recorded_us: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Turn:
    """A metric's judgement became another one; the events and requests are those until then."""

    at_us: int
    metric: MetricName
    judgement: Judgement
    canary: tuple[int, int]
    stable: tuple[int, int]

    @property
    def summary(self) -> str:
        """One line for people."""
        (n, x), (stable_n, stable_x) = self.canary, self.stable
        return f"{self.metric}: canary {x}/{n}, stable {stable_x}/{stable_n}: {self.judgement}"


@dataclass(frozen=True, slots=True)
class Replay:
    """When which judgement would have changed, and what would have come of it first.

    ``proven`` is when 100 % would have been allowed, as far as metrics go. ``unknown`` are metrics
    of the plan of which nothing was kept.
    """

    turns: tuple[Turn, ...]
    outcome: Outcome
    at_us: int | None
    unknown: tuple[MetricName, ...]


def replayed(plan: Plan, rows: Sequence[Kept]) -> Replay:
    """Decide again on kept intervals with another plan's metrics and chances."""
    turns: list[Turn] = []
    for metric in plan.metrics:
        own = sorted((r for r in rows if r.metric == metric.name), key=lambda r: r.recorded_us)
        if own:
            turns += _turns(plan, metric, own)
    turns.sort(key=lambda turn: turn.at_us)
    outcome, at_us = _outcome(plan, turns)
    there = {row.metric for row in rows}
    unknown = tuple(m.name for m in plan.metrics if m.name not in there)
    return Replay(tuple(turns), outcome, at_us, unknown)


def check_replay(plan: Plan, former: Plan) -> None:
    """Refuse a plan whose events are others than those that were counted.

    Raises:
        InvalidInput: an answer is slow from another time on, or labels mature at another age.
    """
    was = {metric.name: metric for metric in former.metrics}
    faults = [
        Fault(f"metrics.{m.name}.slo_ms", f"was {was[m.name].slo_ms} when answers were counted, "
              f"found {m.slo_ms}")
        for m in plan.metrics
        if m.name in was and m.slo_ms != was[m.name].slo_ms
    ]  # fmt: skip
    graded = any(m.name in GRADED and m.name in was for m in plan.metrics)
    if graded and plan.label_maturity_s != former.label_maturity_s:
        faults.append(Fault("label_maturity", f"was {former.label_maturity_s:.10g} s when labels "
                            f"were counted, found {plan.label_maturity_s:.10g}"))  # fmt: skip
    if faults:
        raise InvalidInput(
            "This plan cannot be replayed on what was counted by another one.", tuple(faults),
            "Only metrics, their limits and the chances may differ.",
        )  # fmt: skip


def _turns(plan: Plan, metric: Metric, rows: Sequence[Kept]) -> list[Turn]:
    """The moments at which the judgement of one metric changes, oldest first."""
    counts = Counts.of([row.interval for row in rows])
    rollback = max(1, sum(m.action == "rollback" for m in plan.metrics))
    bad = ln_e_bad_so_far(metric, counts) >= math.log(rollback / plan.alpha_rollback)
    good = ln_e_good_so_far(metric, counts) >= math.log(1 / plan.alpha_promote)
    sums = [column.cumsum() for column in counts]
    found: list[Turn] = []
    before: Judgement = "inconclusive"
    for place, row in enumerate(rows):
        if place + 1 < len(rows) and rows[place + 1].recorded_us == row.recorded_us:
            continue  # what became known at once is judged at once
        n, x, stable_n, stable_x = (int(column[place]) for column in sums)
        now: Judgement = "inconclusive"
        if bad[place]:
            now = "failed"
        elif n and good[place]:
            now = "successful"
        if now != before:
            found.append(Turn(row.recorded_us, metric.name, now, (n, x), (stable_n, stable_x)))
        before = now
    return found


def _outcome(plan: Plan, turns: Sequence[Turn]) -> tuple[Outcome, int | None]:
    """What comes first: a rollback, a pause, or the proof of every required metric."""
    actions = {metric.name: metric.action for metric in plan.metrics}
    required = {metric.name for metric in plan.metrics if metric.required}
    proven: set[MetricName] = set()
    for turn in turns:
        if turn.judgement == "failed" and actions[turn.metric] == "rollback":
            return "rolled back", turn.at_us
        if turn.judgement == "failed" and actions[turn.metric] == "pause":
            return "paused", turn.at_us
        (proven.add if turn.judgement == "successful" else proven.discard)(turn.metric)
        if required and required <= proven:
            return "proven", turn.at_us
    return "undecided", None
