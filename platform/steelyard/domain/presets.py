"""Rollout plans to start from, by name, and what a person changes of one by hand.

``standard`` is for a service that people rely on, ``fast`` for a laptop or a demonstration,
``careful`` for a version whose mistakes are expensive. All three ask for the same proof: a preset
decides how long and at which weights it is collected, never whether it is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from steelyard.domain.analysis import Metric
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.traffic import BUCKETS

PresetName = Literal["fast", "standard", "careful"]

MINUTE_S, HOUR_S = 60.0, 3_600.0
BP_PER_PERCENT = BUCKETS // 100


def _steps(min_requests: int, *steps: tuple[int, float]) -> tuple[Step, ...]:
    """Steps of (percent, bake seconds), then all traffic, which bakes no more."""
    before = (Step(percent * BP_PER_PERCENT, bake_s, min_requests) for percent, bake_s in steps)
    return (*before, Step(BUCKETS))


PRESETS: Mapping[PresetName, Plan] = {
    "fast": Plan(
        _steps(20, (5, 30.0), (25, 30.0), (50, 30.0)), default_metrics(),
        interval_s=5.0, label_maturity_s=MINUTE_S, keep_warm_s=5 * MINUTE_S,
    ),
    "standard": Plan(
        _steps(100, (1, 10 * MINUTE_S), (5, 30 * MINUTE_S), (10, HOUR_S), (25, HOUR_S),
               (50, HOUR_S)),
        default_metrics(),
    ),
    "careful": Plan(
        _steps(500, (1, HOUR_S), (2, 2 * HOUR_S), (5, 4 * HOUR_S), (10, 6 * HOUR_S),
               (25, 12 * HOUR_S), (50, 24 * HOUR_S)),
        (*default_metrics(), Metric("paired")), keep_warm_s=24 * HOUR_S, alpha_promote=0.01,
        probation_s=48 * HOUR_S, reverse_shadow_bp=5 * BP_PER_PERCENT,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ByHand:
    """What a person says of a plan; None leaves what the preset says.

    ``weights`` are percents, ``bake_s`` and ``min_requests`` count for every step but the last.
    """

    weights: tuple[float, ...] | None = None
    bake_s: float | None = None
    min_requests: int | None = None
    interval_s: float | None = None
    label_maturity_s: float | None = None
    keep_warm_s: float | None = None
    label_tolerance: float | None = None


def adapted(plan: Plan, by_hand: ByHand) -> Plan:
    """The plan with what a person said in place of its own.

    >>> [step.bake_s for step in adapted(PRESETS["standard"], ByHand(weights=(2, 30, 100))).steps]
    [600.0, 3600.0, 0.0]
    """
    weights = by_hand.weights
    percents = weights if weights is not None else [s.weight_bp / 100 for s in plan.steps]
    times = {
        name: value
        for name in ("interval_s", "label_maturity_s", "keep_warm_s")
        if (value := getattr(by_hand, name)) is not None
    }
    tolerance = by_hand.label_tolerance
    metrics = plan.metrics if tolerance is None else _tolerant(plan, tolerance)
    steps = tuple(_step(plan, round(percent * 100), by_hand) for percent in percents)
    return replace(plan, steps=steps, metrics=metrics, **times)


def _tolerant(plan: Plan, tolerance: float) -> tuple[Metric, ...]:
    """The preset's metrics, of which those that look at labels bear so many wrong answers."""
    paired = tuple(replace(m, tolerance=tolerance) for m in plan.metrics if m.kind == "paired")
    return (*default_metrics(tolerance), *paired)


def _step(plan: Plan, weight_bp: int, by_hand: ByHand) -> Step:
    """One step: baked as long as the plan's own at this weight, else at the next smaller one."""
    if weight_bp >= BUCKETS:
        return replace(plan.steps[-1], weight_bp=weight_bp)
    below = [step for step in plan.steps[:-1] if step.weight_bp <= weight_bp]
    like = (below or plan.steps)[-1 if below else 0]
    bake_s = like.bake_s if by_hand.bake_s is None else by_hand.bake_s
    requests = like.min_requests if by_hand.min_requests is None else by_hand.min_requests
    same = like.weight_bp == weight_bp
    shadow_bp = like.shadow_bp if same else 0
    return Step(weight_bp, bake_s, requests, like.approval and same, shadow_bp)
