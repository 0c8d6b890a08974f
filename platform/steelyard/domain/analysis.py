"""From intervals to a judgement of the canary, metric by metric.

No data is a hold, never a pass and never a failure. "Worse" is tested against the concurrent
stable version; "good enough for 100 %" is non-inferiority by a margin, or staying within a
declared share of events (the floor, for metrics whose events are too rare to compare).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.domain.e_process import (
    Interval,
    ln_e_below_limit,
    ln_e_not_worse,
    ln_e_worse,
)

Judgement = Literal["successful", "failed", "inconclusive"]
MetricName = Literal["errors", "labels"]
Action = Literal["rollback", "pause", "observe"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared.

    ``tolerance``: event ratio up to which nothing is rolled back. ``margin``: ratio below which
    the canary is as good. ``floor``: share of events that is acceptable in itself, or None.
    ``required``: 100 % needs the verdict "successful".
    """

    name: MetricName
    tolerance: float = 1.0
    margin: float = 2.0
    floor: float | None = None
    action: Action = "rollback"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one metric and the evidence behind it.

    ``ln_e_worse`` and ``ln_e_good`` are compared with ``ln_worse_at`` and ``ln_good_at``.
    """

    metric: MetricName
    judgement: Judgement
    action: Action
    required: bool
    ln_e_worse: float
    ln_worse_at: float
    ln_e_good: float
    ln_good_at: float
    canary: tuple[int, int]
    stable: tuple[int, int]

    @property
    def summary(self) -> str:
        """One line for people: events of requests in both arms, and what that says."""
        return (
            f"{self.metric}: canary {self.canary[1]}/{self.canary[0]}, "
            f"stable {self.stable[1]}/{self.stable[0]}: {self.judgement}"
        )


def judge(
    metric: Metric, rows: Sequence[Interval], rollback_metrics: int,
    alpha_rollback: float = 0.05, alpha_promote: float = 0.05,
) -> Verdict:  # fmt: skip
    """Judge one metric on all intervals of the rollout so far.

    The chance of a false rollback is split over the ``rollback_metrics``, any of which may fire;
    the chance of a false promotion is not split, because all required ones must pass.
    """
    worse_at = math.log(max(1, rollback_metrics) / alpha_rollback)
    good_at = math.log(1 / alpha_promote)
    n_c, x_c = sum(r.n_canary for r in rows), sum(r.x_canary for r in rows)
    n_b, x_b = sum(r.n_stable for r in rows), sum(r.x_stable for r in rows)
    worse = ln_e_worse(rows, metric.tolerance)
    good = _ln_e_good(metric, rows, n_c, x_c)
    judgement: Judgement = "inconclusive"
    if worse >= worse_at:
        judgement = "failed"
    elif n_c and good >= good_at:
        judgement = "successful"
    return Verdict(metric.name, judgement, metric.action, metric.required, worse, worse_at, good,
                   good_at, (n_c, x_c), (n_b, x_b))  # fmt: skip


def _ln_e_good(metric: Metric, rows: Sequence[Interval], n: int, x: int) -> float:
    by_ratio = ln_e_not_worse(rows, metric.margin)
    if metric.floor is None:
        return by_ratio
    by_floor = ln_e_below_limit(n, x, metric.floor)
    top = max(by_ratio, by_floor)
    return top + math.log((math.exp(by_ratio - top) + math.exp(by_floor - top)) / 2)


def requests_needed(verdict: Verdict, floor: float | None) -> int | None:
    """About how many more event-free canary requests the floor needs; None without a floor.

    ROLLOUT: zero events certify after about 4.24/f requests; each request adds
    −ln(1 − f) at most, of which the mixture gives up a part.
    """
    if floor is None or verdict.judgement == "successful":
        return None
    missing = verdict.ln_good_at - verdict.ln_e_good
    return max(1, math.ceil(missing / (0.9 * -math.log(1 - floor))))


def judge_all(
    metrics: Sequence[Metric], rows: Mapping[MetricName, Sequence[Interval]],
    alpha_rollback: float = 0.05, alpha_promote: float = 0.05,
) -> tuple[Verdict, ...]:  # fmt: skip
    """Judge every metric of a plan."""
    rollback = sum(m.action == "rollback" for m in metrics)
    return tuple(
        judge(m, rows.get(m.name, ()), rollback, alpha_rollback, alpha_promote) for m in metrics
    )
