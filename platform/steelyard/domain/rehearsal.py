"""What a rollout plan will take, before anything moves: times, requests, chances.

Everything here is an estimate from today's traffic, and says so by its name.
"""

import math
from dataclasses import dataclass

import numpy as np

from steelyard.domain.analysis import Metric, ln_e_good
from steelyard.domain.e_process import Counts, ln_e_worse_so_far
from steelyard.domain.rollout_plan import Plan, Step
from steelyard.domain.traffic import BUCKETS

RUNS = 2_000
LOOKS = 50
"""Intervals of an imagined rollout at most; a longer one is looked at less often."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the model sees now: requests a second, and the share of them that fail."""

    requests_per_s: float
    error_share: float


@dataclass(frozen=True, slots=True)
class Chances:
    """How imagined rollouts ended, as shares of all of them."""

    rollback: float
    promote: float
    hold: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Estimates for one plan and one traffic; None where there is no traffic to estimate from.

    ``promote_s``: least time to all traffic. ``rollback_requests``: requests of both arms until
    a canary that fails ``worse`` times as often is found out at the first step, ``rollback_s``
    the time for that. ``canary_requests``: those that the candidate will have answered by then.
    """

    promote_s: float | None
    rollback_requests: int | None
    rollback_s: float | None
    canary_requests: int | None
    worse: float
    if_equal: Chances | None
    if_worse: Chances | None


def rehearse(
    plan: Plan, traffic: Traffic, start_s: float, worse: float = 3.0, random_seed: int = 0
) -> Rehearsal:
    """Estimate what carrying out a plan will take.

    ``start_s`` is how long the version takes until it is ready.
    """
    rate = traffic.requests_per_s
    if rate <= 0:
        return Rehearsal(None, None, None, None, worse, None, None)
    times = [step_s(step, rate) for step in plan.steps]
    first = plan.steps[0].weight_bp / BUCKETS
    metric = next((m for m in plan.metrics if m.name == "errors"), None)
    requests = None
    if metric is not None and traffic.error_share > 0 and first < 1:
        alpha = plan.alpha_rollback / max(1, sum(m.action == "rollback" for m in plan.metrics))
        requests = requests_to_rollback(first, worse, traffic.error_share, alpha)
    answered = sum(
        taken * rate * step.weight_bp / BUCKETS
        for taken, step in zip(times, plan.steps[:-1], strict=False)
    )
    return Rehearsal(
        start_s + sum(times), requests,
        None if requests is None else requests / rate + plan.interval_s, round(answered), worse,
        None if metric is None else chances(plan, metric, traffic, 1.0, random_seed),
        None if metric is None or not traffic.error_share
        else chances(plan, metric, traffic, worse, random_seed),
    )  # fmt: skip


def step_s(step: Step, requests_per_s: float) -> float:
    """How long a step lasts at least: its bake, or until its requests are there."""
    share = step.weight_bp / BUCKETS
    return max(step.bake_s, step.min_requests / (requests_per_s * share))


def requests_to_rollback(share: float, ratio: float, error_share: float, alpha: float) -> int:
    """Requests of both arms until a canary ``ratio`` times as bad is found out, about.

    N ≈ (ln(1/α) + 1.5) ÷ (KL · r): what each request adds in the mean, with an allowance for the
    mixture; 22 to 51 % above the median of simulated rollouts (ROLLOUT, rehearsal).

    >>> requests_to_rollback(0.05, 3.0, 0.005, 0.05)
    14999
    """
    theta = share * ratio / (share * ratio + 1 - share)
    each = theta * math.log(theta / share) + (1 - theta) * math.log((1 - theta) / (1 - share))
    events = error_share * (share * ratio + 1 - share)
    return math.ceil((math.log(1 / alpha) + 1.5) / (each * events))


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
    rate = traffic.requests_per_s
    pieces = []
    whole_s = sum(step_s(step, rate) for step in plan.steps[:-1])
    look_s = max(plan.interval_s, whole_s / LOOKS)
    for step in plan.steps[:-1]:
        looks = max(1, round(step_s(step, rate) / look_s))
        total = rate * step_s(step, rate) / looks
        pieces += [(total * step.weight_bp / BUCKETS, total)] * looks
    table = np.array(pieces or [(0.0, 0.0)])
    canary = np.floor(table[:, 0]).astype(int)
    return canary, np.floor(table[:, 1]).astype(int) - canary
