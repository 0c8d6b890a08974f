"""What a rollout plan will take, before anything moves: times, requests, chances.

Everything here is an estimate from today's traffic, and says so by its name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.domain.analysis import Metric, ln_e_good
from steelyard.domain.e_process import Counts, ln_e_worse_so_far
from steelyard.domain.rollout_plan import Plan
from steelyard.domain.traffic import BUCKETS
from steelyard.domain.verdict_requests import (
    requests_to_floor,
    requests_to_promotion,
    requests_to_rollback,
)

RUNS = 2_000
LOOKS = 50
"""Intervals of an imagined rollout at most; a longer one is looked at less often."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the model sees now: requests a second, and the share of them that fail."""

    requests_per_s: float
    error_share: float


@dataclass(frozen=True, slots=True)
class Reaction:
    """How long this platform takes besides the evidence itself, at worst, in seconds.

    ``settle_s``: until an answer's record counts. ``tick_s``: between two looks.
    ``acknowledge_s``: until the edge was seen to use a new weight.
    """

    settle_s: float
    tick_s: float
    acknowledge_s: float

    @property
    def total_s(self) -> float:
        """All three, one after the other."""
        return self.settle_s + self.tick_s + self.acknowledge_s


@dataclass(frozen=True, slots=True)
class Chances:
    """How imagined rollouts ended, as shares of all of them."""

    rollback: float
    promote: float
    hold: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Estimates for one plan and one traffic; None where there is no traffic to estimate from.

    ``promote_s``: least time to all traffic. ``expected_s``: the time until 100 % is proven for a
    version that is as good as stable, None too where nothing could prove it. ``rollback_requests``:
    requests of both arms until a canary that fails ``worse`` times as often is found out at the
    first step, ``rollback_s`` the worst time for that until stable has all traffic again,
    ``guard_s`` that of a canary that only fails. ``canary_requests``: those that the candidate
    will have answered by ``promote_s``, ``copies`` those that it repeats unseen.
    """

    promote_s: float | None
    expected_s: float | None
    rollback_requests: int | None
    rollback_s: float | None
    guard_s: float
    canary_requests: int | None
    copies: int | None
    worse: float
    if_equal: Chances | None
    if_worse: Chances | None


def rehearse(
    plan: Plan, traffic: Traffic, start_s: float, reaction: Reaction, worse: float = 3.0,
    random_seed: int = 0,
) -> Rehearsal:  # fmt: skip
    """Estimate what carrying out a plan will take.

    ``start_s`` is how long the version takes until it is ready. Of several candidates the one
    with the least traffic is looked at.
    """
    guard_s = plan.interval_s + reaction.total_s
    rate = traffic.requests_per_s
    if rate <= 0:
        return Rehearsal(None, None, None, None, guard_s, None, None, worse, None, None)
    phases = phases_of(plan, rate)
    promote_s = start_s + sum(phase.seconds for phase in phases)
    metric = next((m for m in plan.metrics if m.name == "errors"), None)
    requests = _rollback_requests(plan, phases, traffic, worse) if metric else None
    extra_s = None if metric is None else _proof_s(plan, metric, phases, traffic)
    bad_s = None if requests is None else requests / rate + plan.interval_s + reaction.total_s
    return Rehearsal(
        promote_s, None if extra_s is None else promote_s + extra_s, requests, bad_s, guard_s,
        round(sum(phase.canary * phase.seconds for phase in phases)),
        round(sum(phase.copies * phase.seconds for phase in phases)
              + rate * plan.reverse_shadow_bp / BUCKETS * plan.probation_s), worse,
        None if metric is None else chances(plan, metric, traffic, 1.0, random_seed),
        None if metric is None or not traffic.error_share
        else chances(plan, metric, traffic, worse, random_seed),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phase:
    """A step before all traffic: how long at least, and requests a second of each kind.

    ``share`` is the candidate's part of all requests, ``canary`` the requests it answers,
    ``copies`` those of stable's that it repeats unseen.
    """

    seconds: float
    share: float
    canary: float
    copies: float


def phases_of(plan: Plan, requests_per_s: float) -> list[Phase]:
    """The steps below 100 % at so many requests a second, in order.

    A step lasts its bake, or until its requests are there: the candidate's answers, or its copies
    where it answers nobody.
    """
    region = min((one.max_weight_bp for one in plan.candidates), default=BUCKETS) / BUCKETS
    found = []
    for step in plan.steps:
        if step.weight_bp == BUCKETS:
            continue
        share = step.weight_bp / BUCKETS * region
        canary = requests_per_s * share
        copies = requests_per_s * min(step.shadow_bp / BUCKETS, 1 - share)
        counted = canary or copies
        waited_s = step.min_requests / counted if step.min_requests else 0.0
        found.append(Phase(max(step.bake_s, waited_s), share, canary, copies))
    return found


def _rollback_requests(
    plan: Plan, phases: Sequence[Phase], traffic: Traffic, worse: float
) -> int | None:
    first = next((phase.share for phase in phases if phase.share), None)
    if first is None or not traffic.error_share:
        return None
    alpha = plan.alpha_rollback / max(1, sum(m.action == "rollback" for m in plan.metrics))
    return requests_to_rollback(first, worse, traffic.error_share, alpha)


def _proof_s(
    plan: Plan, metric: Metric, phases: Sequence[Phase], traffic: Traffic
) -> float | None:  # fmt: skip
    """Seconds past the least time until an equal version is proven at the last share.

    What has been learned before counts: by the ratio of both arms, or by the floor, whichever is
    sooner. None where neither can prove it; 0 where nothing need be proven.
    """
    last = next((phase for phase in reversed(phases) if phase.share), None)
    if last is None or not metric.required:
        return 0.0
    rate, ways = traffic.requests_per_s, []
    if traffic.error_share:
        done = sum(
            phase.seconds * rate / _promotion(phase.share, metric, plan, traffic)
            for phase in phases if phase.share
        )  # fmt: skip
        ways.append(max(0.0, 1 - done) * _promotion(last.share, metric, plan, traffic) / rate)
    if metric.floor is not None and traffic.error_share < metric.floor:
        needed = requests_to_floor(metric.floor, traffic.error_share, plan.alpha_promote)
        seen = sum(phase.seconds * phase.canary for phase in phases)
        ways.append(max(0.0, needed - seen) / last.canary)
    return min(ways, default=None)


def _promotion(share: float, metric: Metric, plan: Plan, traffic: Traffic) -> int:
    return requests_to_promotion(share, metric.margin, traffic.error_share, plan.alpha_promote)


def chances(
    plan: Plan, metric: Metric, traffic: Traffic, ratio: float, random_seed: int
) -> Chances:  # fmt: skip
    """How rollouts end whose canary fails ``ratio`` times as often as stable: 2,000 imagined ones.

    Judged by the code that judges real ones, at every interval of the steps below 100 %.
    """
    canary, stable = _intervals(plan, traffic)
    random = np.random.default_rng(random_seed)
    shape = (RUNS, len(canary))
    bad = min(1.0, ratio * traffic.error_share)
    counts = Counts(
        canary.astype(float), random.binomial(canary, bad, shape).astype(float),
        stable.astype(float), random.binomial(stable, traffic.error_share, shape).astype(float),
    )  # fmt: skip
    worse_at = math.log(
        max(1, sum(m.action == "rollback" for m in plan.metrics)) / plan.alpha_rollback
    )
    fallen = (ln_e_worse_so_far(counts, metric.tolerance) >= worse_at).any(-1)
    proven = ~fallen & (ln_e_good(metric, counts) >= math.log(1 / plan.alpha_promote))
    rollback, promote = float(fallen.mean()), float(proven.mean())
    return Chances(rollback, promote, 1 - rollback - promote)


def _intervals(plan: Plan, traffic: Traffic) -> tuple[np.ndarray, np.ndarray]:
    """Requests of both arms in every look before 100 %."""
    pieces = []
    phases = phases_of(plan, traffic.requests_per_s)
    look_s = max(plan.interval_s, sum(phase.seconds for phase in phases) / LOOKS)
    for phase in phases:
        looks = max(1, round(phase.seconds / look_s))
        total = traffic.requests_per_s * phase.seconds / looks
        pieces += [(total * phase.share, total)] * looks
    table = np.array(pieces or [(0.0, 0.0)])
    canary = np.floor(table[:, 0]).astype(int)
    return canary, np.floor(table[:, 1]).astype(int) - canary
