"""From intervals to a judgement of the canary, metric by metric.

No data is a hold, never a pass and never a failure. "Worse" is tested against the concurrent
stable version; "good enough for 100 %" is non-inferiority by a margin, or staying within a
declared share of events (the floor, for metrics whose events are too rare to compare).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from steelyard.domain.e_process import (
    Array,
    Counts,
    Interval,
    ln_e_above_limit,
    ln_e_below_limit,
    ln_e_not_worse,
    ln_e_not_worse_so_far,
    ln_e_worse,
    ln_e_worse_so_far,
    ln_mean,
)
from steelyard.domain.unit_spread import Spread, upper_ratio

Judgement = Literal["successful", "failed", "inconclusive"]
MetricName = Literal[
    "errors", "timeouts", "latency", "labels", "paired", "disagreement", "cost", "energy"
]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
Kind = Literal["ratio", "paired", "limit", "window"]
COMPARED: frozenset[Kind] = frozenset({"ratio", "paired"})
"""What is tested by the share of events that are the canary's."""
Action = Literal["rollback", "pause", "observe"]
LIMITED: frozenset[MetricName] = frozenset({"disagreement"})
WINDOWED: frozenset[MetricName] = frozenset({"cost", "energy"})
GRADED: frozenset[MetricName] = frozenset({"labels", "paired"})
"""What waits until a label may be expected to be there."""
FAIR = 0.5
"""An interval in which two equal versions are compared is a fair coin."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared.

    ``tolerance``: event ratio up to which nothing is rolled back. ``margin``: ratio below which
    the canary is as good. ``floor``: share of events that is acceptable in itself, or None.
    ``required``: 100 % needs the verdict "successful". ``slo_ms``: a slower answer is an event of
    ``latency``. ``limit``: share of answers that may disagree, for ``disagreement``.
    """

    name: MetricName
    tolerance: float = 1.0
    margin: float = 2.0
    floor: float | None = None
    action: Action = "rollback"
    required: bool = False
    slo_ms: int | None = None
    limit: float | None = None

    @property
    def bearable(self) -> float | None:
        """The share of events that is good enough in itself; None when it is only compared."""
        return self.limit if self.kind == "limit" else self.floor

    @property
    def kind(self) -> Kind:
        """How it is tested: event rates of two arms, pairs, one rate against a limit, or means.

        Pairs are answers of both versions to the same requests: an event of an arm is that it
        alone was wrong, and both arms have as many requests. Cost and energy have no events; an
        interval in which the canary's mean is above ``tolerance`` × stable's is one of a fair
        coin's two sides.
        """
        if self.name in LIMITED:
            return "limit"
        if self.name == "paired":
            return "paired"
        return "window" if self.name in WINDOWED else "ratio"


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one metric: its intervals, and how the two arms spread over units.

    For cost and energy the events of an interval are its sum (µs of device time, mJ).
    ``spread`` is (canary's, stable's), None when requests name no unit. ``earlier`` are the
    intervals of attempts before this one, of the same two versions: they may prove the canary
    good, and never count against it again.
    """

    rows: Sequence[Interval] = ()
    spread: tuple[Spread, Spread] | None = None
    earlier: Sequence[Interval] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one metric and the evidence behind it.

    ``ln_e_worse`` and ``ln_e_good`` are compared with ``ln_worse_at`` and ``ln_good_at``;
    ``upper_ratio`` with the metric's margin, where units are known. ``limit`` is that of a metric
    which has one.
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
    upper_ratio: float | None = None
    limit: float | None = None

    @property
    def summary(self) -> str:
        """One line for people: what was counted, and what that says."""
        return f"{self.metric}: {self.counted}: {self.judgement}"

    @property
    def counted(self) -> str:
        """Events of requests in both arms, or in pairs of answers."""
        (n, x), (stable_n, stable_x) = self.canary, self.stable
        if self.limit is not None:
            rate = f" ({100 * x / n:.3g} %)" if n else ""
            return f"{x} of {n} pairs differ{rate}, limit {100 * self.limit:g} %"
        if self.metric == "paired":
            return f"in {n} pairs only the canary was wrong {x} times, only stable {stable_x} times"
        return f"canary {x}/{n}, stable {stable_x}/{stable_n}"


def judge(
    metric: Metric, observed: Observed, rollback_metrics: int,
    alpha_rollback: float = 0.05, alpha_promote: float = 0.05,
) -> Verdict:  # fmt: skip
    """Judge one metric on all intervals of the rollout so far.

    The chance of a false rollback is split over the ``rollback_metrics``, any of which may fire;
    the chance of a false promotion is not split, because all required ones must pass. What the
    verdict counts is this attempt's; its ``ln_e_good`` is of all attempts.
    """
    worse_at = math.log(max(1, rollback_metrics) / alpha_rollback)
    good_at = math.log(1 / alpha_promote)
    counts = Counts.of(observed.rows)
    proof = Counts.of([*observed.earlier, *observed.rows]) if observed.earlier else counts
    canary = int(counts.n_canary.sum()), int(counts.x_canary.sum())
    stable = int(counts.n_stable.sum()), int(counts.x_stable.sum())
    worse, good = float(ln_e_bad(metric, counts)), float(ln_e_good(metric, proof))
    shown = int(proof.n_canary.sum()), int(proof.x_canary.sum())
    upper = None if observed.spread is None else upper_ratio(*observed.spread)
    judgement: Judgement = "inconclusive"
    if worse >= worse_at:
        judgement = "failed"
    elif canary[0] and good >= good_at and _units_agree(metric, upper, shown, good_at):
        judgement = "successful"
    return Verdict(metric.name, judgement, metric.action, metric.required, worse, worse_at, good,
                   good_at, canary, stable, upper,
                   metric.limit if metric.kind == "limit" else None)  # fmt: skip


def ln_e_bad(metric: Metric, counts: Counts) -> Array:
    """Ln of the evidence that the canary is worse than it may be."""
    if metric.kind in COMPARED:
        return ln_e_worse(counts, metric.tolerance)
    n, x, limit = _trials(metric, counts)
    return ln_e_above_limit(n, x, limit)


def ln_e_good(metric: Metric, counts: Counts) -> Array:
    """Ln of the evidence that the canary is good enough for all traffic."""
    if metric.kind not in COMPARED:
        n, x, limit = _trials(metric, counts)
        return ln_e_below_limit(n, x, limit)
    by_ratio = ln_e_not_worse(counts, metric.margin)
    if metric.floor is None:
        return by_ratio
    return ln_mean(by_ratio, _ln_e_floor(metric.floor, counts))


def ln_e_bad_so_far(metric: Metric, counts: Counts) -> Array:
    """The same as ``ln_e_bad`` after every interval."""
    if metric.kind in COMPARED:
        return ln_e_worse_so_far(counts, metric.tolerance)
    return ln_e_above_limit(*_trials_so_far(metric, counts))


def ln_e_good_so_far(metric: Metric, counts: Counts) -> Array:
    """The same as ``ln_e_good`` after every interval."""
    if metric.kind not in COMPARED:
        return ln_e_below_limit(*_trials_so_far(metric, counts))
    by_ratio = ln_e_not_worse_so_far(counts, metric.margin)
    if metric.floor is None:
        return by_ratio
    n, x = counts.n_canary.cumsum(), counts.x_canary.cumsum(-1)
    return ln_mean(by_ratio, ln_e_below_limit(n, x, metric.floor))


def _ln_e_floor(floor: float, counts: Counts) -> Array:
    return ln_e_below_limit(float(counts.n_canary.sum()), counts.x_canary.sum(-1), floor)


def _trials(metric: Metric, counts: Counts) -> tuple[float, Array, float]:
    """Trials, those that went against the canary, and what share of them may."""
    n, x, limit = _trials_each(metric, counts)
    return float(n.sum()), x.sum(-1), limit


def _trials_so_far(metric: Metric, counts: Counts) -> tuple[Array, Array, float]:
    n, x, limit = _trials_each(metric, counts)
    return n.cumsum(), x.cumsum(-1), limit


def _trials_each(metric: Metric, counts: Counts) -> tuple[Array, Array, float]:
    """The same of every interval."""
    if metric.kind == "limit":
        return counts.n_canary, counts.x_canary, FAIR if metric.limit is None else metric.limit
    both = (counts.n_canary > 0) & (counts.n_stable > 0)
    # Means are compared crosswise: nothing is divided by 0.
    dearer = counts.x_canary * counts.n_stable > (
        metric.tolerance * counts.x_stable * counts.n_canary
    )
    return both.astype(float), (dearer & both).astype(float), FAIR


def _units_agree(
    metric: Metric, upper: float | None, canary: tuple[int, int], good_at: float
) -> bool:
    """Whether units do not speak against what their newly hit ones say, or the floor suffices."""
    if metric.kind != "ratio" or upper is None or upper < metric.margin:
        return True
    if metric.floor is None:
        return False
    # Half of the evidence is the floor's, so alone it must be twice as strong.
    return float(ln_e_below_limit(*canary, metric.floor)) >= good_at + math.log(2)


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
    metrics: Sequence[Metric], observed: Mapping[MetricName, Observed],
    alpha_rollback: float = 0.05, alpha_promote: float = 0.05,
) -> tuple[Verdict, ...]:  # fmt: skip
    """Judge every metric of a plan."""
    rollback = sum(m.action == "rollback" for m in metrics)
    nothing = Observed()
    return tuple(
        judge(m, observed.get(m.name, nothing), rollback, alpha_rollback, alpha_promote)
        for m in metrics
    )
