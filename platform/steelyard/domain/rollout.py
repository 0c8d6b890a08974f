"""A gradual rollout: its plan, its state, and the pure rule that moves it.

The controller asks ``advance`` what should be; it never decides itself. Weights are basis points
of the 10,000 buckets. "Confirmed" means that the edge was seen to use the weight; only then does
a step's bake time run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from steelyard.domain.analysis import Metric, Verdict, requests_needed
from steelyard.domain.errors import Conflict, Fault, InvalidInput
from steelyard.domain.traffic import BUCKETS

RolloutPhase = Literal["progressing", "paused", "healthy", "degraded"]
Condition = Literal[
    "preparing", "progressing", "paused", "promoting", "healthy", "aborting", "degraded", "failed"
]
Kind = Literal["first", "canary", "undo"]
OPEN: frozenset[str] = frozenset({"preparing", "progressing", "paused", "promoting", "aborting"})
SECOND_US = 1_000_000
CONTROLLER_LEASE = "controller"
"""The lease that lets one controller write; its token fences off the one before."""


@dataclass(frozen=True, slots=True)
class Step:
    """One weight and how long it bakes at least: seconds and executed canary requests."""

    weight_bp: int
    bake_s: float = 0.0
    min_requests: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a version takes over.

    ``interval_s`` is the length of one row of evidence; ``label_maturity_s`` how long a label may
    take; ``keep_warm_s`` how long the old version stays ready after the end; ``ready_within_s``
    how long a version may take to start. ``alpha_*`` are the chances of a wrong verdict.
    """

    steps: tuple[Step, ...]
    metrics: tuple[Metric, ...]
    interval_s: float = 60.0
    label_maturity_s: float = 86_400.0
    keep_warm_s: float = 3_600.0
    ready_within_s: float = 300.0
    alpha_rollback: float = 0.05
    alpha_promote: float = 0.05


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of one rollout. ``step`` is −1 until the first weight is set."""

    rollout_id: str
    model: str
    kind: Kind
    stable: int | None
    candidate: int
    plan: Plan
    lineage: str
    created_us: int
    created_by: str
    condition: Condition = "preparing"
    step: int = -1
    weight_bp: int = 0
    generation: int = 0
    confirmed_us: int | None = None
    ended_us: int | None = None
    reason: str = ""

    @property
    def phase(self) -> RolloutPhase:
        """The coarse phase, in the field's words."""
        if self.condition in ("healthy", "paused"):
            return "healthy" if self.condition == "healthy" else "paused"
        return "degraded" if self.condition in ("degraded", "failed") else "progressing"

    @property
    def is_open(self) -> bool:
        """Whether it still moves or waits."""
        return self.condition in OPEN


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the candidate at one moment.

    ``readiness``: starting, ready, or what is wrong (``failed``: it will not come up;
    ``unhealthy``: it was up). ``step_requests``: canary requests executed in the present step.
    """

    readiness: Literal["starting", "ready", "unhealthy", "failed"]
    readiness_reason: str = ""
    verdicts: tuple[Verdict, ...] = ()
    step_requests: int = 0


def default_metrics(label_tolerance: float = 1.0) -> tuple[Metric, ...]:
    """Request errors are required; labels roll back when they come and are worse.

    ``label_tolerance`` is the ratio of wrong answers to stable's that a smaller variant may have.
    """
    return (
        Metric("errors", margin=2.0, floor=0.01, required=True),
        Metric("labels", tolerance=label_tolerance, margin=1.25 * label_tolerance),
    )


def check_plan(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out, naming every fault.

    Raises:
        InvalidInput: weights do not grow or do not end at 100 %, a time is negative, no required
            metric.
    """
    faults = []
    weights = [step.weight_bp for step in plan.steps]
    if not weights or weights[-1] != BUCKETS:
        faults.append(Fault("steps", "the last step is 100 %"))
    if weights != sorted(set(weights)) or (weights and weights[0] <= 0):
        faults.append(Fault("steps", f"weights grow from above 0, found {_percents(weights)}"))
    if any(step.bake_s < 0 or step.min_requests < 0 for step in plan.steps):
        faults.append(Fault("steps", "bake time and minimum requests are not negative"))
    if plan.interval_s <= 0 or plan.keep_warm_s < 0 or plan.label_maturity_s < 0:
        faults.append(Fault("times", "the interval is above 0, other times are not negative"))
    if len(plan.steps) > 1 and not any(metric.required for metric in plan.metrics):
        faults.append(Fault("metrics", "at least one metric is required"))
    if faults:
        raise InvalidInput("The rollout plan cannot be carried out.", tuple(faults))


def _percents(weights: Sequence[int]) -> str:
    return ", ".join(f"{weight / 100:g}" for weight in weights)


def advance(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    """What the rollout should be, given what is known now. Pure; calling it again is harmless.

    While the canary has weight, its health and the evidence against it are judged first, in
    every condition; then pause, then the bake, then the next step.
    """
    if not rollout.is_open:
        return rollout
    if rollout.condition == "aborting":
        return _finish_abort(rollout, now_us)
    if rollout.condition == "preparing":
        return _prepared(rollout, evidence, now_us)
    against = _evidence_against(rollout, evidence)
    if against is not None:
        return abort(rollout, against, now_us)
    if rollout.condition == "paused" or rollout.confirmed_us is None:
        return rollout
    if rollout.condition == "promoting":
        return replace(rollout, condition="healthy", ended_us=now_us, reason="took all traffic")
    return _next_step(rollout, evidence, now_us)


def _prepared(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    if evidence.readiness == "failed":
        reason = f"version {rollout.candidate} cannot serve: {evidence.readiness_reason}"
        return replace(rollout, condition="failed", ended_us=now_us, reason=reason)
    if evidence.readiness == "ready":
        return _at_step(rollout, 0)
    if now_us - rollout.created_us > rollout.plan.ready_within_s * SECOND_US:
        reason = f"version {rollout.candidate} was not ready in {rollout.plan.ready_within_s:g} s"
        return replace(rollout, condition="failed", ended_us=now_us, reason=reason)
    return replace(rollout, reason=f"waiting until version {rollout.candidate} is ready")


def _at_step(rollout: Rollout, step: int) -> Rollout:
    weight = rollout.plan.steps[step].weight_bp
    return replace(
        rollout,
        condition="promoting" if weight == BUCKETS else "progressing",
        step=step,
        weight_bp=weight,
        confirmed_us=None,
        reason=f"step {step + 1} of {len(rollout.plan.steps)}: {weight / 100:g} %",
    )


def _evidence_against(rollout: Rollout, evidence: Evidence) -> str | None:
    if rollout.kind != "canary":  # nothing to compare with, or nothing better to go back to
        return None
    if evidence.readiness in ("unhealthy", "failed"):
        return f"version {rollout.candidate} is {evidence.readiness}: {evidence.readiness_reason}"
    worse = [v for v in evidence.verdicts if v.judgement == "failed" and v.action == "rollback"]
    return f"worse than stable: {worse[0].summary}" if worse else None


def _next_step(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    assert rollout.confirmed_us is not None
    step = rollout.plan.steps[rollout.step]
    baked_us = now_us - rollout.confirmed_us
    if baked_us < step.bake_s * SECOND_US:
        left = step.bake_s - baked_us / SECOND_US
        return replace(rollout, reason=f"baking at {step.weight_bp / 100:g} %, {left:.0f} s left")
    if evidence.step_requests < step.min_requests:
        missing = step.min_requests - evidence.step_requests
        return replace(rollout, reason=f"hold: needs {missing} more canary requests")
    doubt = [v for v in evidence.verdicts if v.action == "pause" and v.judgement == "failed"]
    if doubt:
        return replace(rollout, condition="paused", reason=f"paused: {doubt[0].summary}")
    following = rollout.plan.steps[rollout.step + 1]
    if following.weight_bp == BUCKETS:
        missing_proof = _unproven(rollout, evidence)
        if missing_proof:
            return replace(rollout, reason=missing_proof)
    return _at_step(rollout, rollout.step + 1)


def _unproven(rollout: Rollout, evidence: Evidence) -> str | None:
    """Why 100 % must wait: a required metric without the verdict "successful"."""
    verdicts = {v.metric: v for v in evidence.verdicts}
    for metric in rollout.plan.metrics:
        if not metric.required:
            continue
        verdict = verdicts.get(metric.name)
        if verdict is None:
            return f"hold: no evidence on {metric.name} yet"
        if verdict.judgement != "successful":
            needed = requests_needed(verdict, metric.floor)
            more = f", needs about {needed} more canary requests" if needed else ""
            return f"hold: {metric.name} not proven{more}"
    return None


def abort(rollout: Rollout, reason: str, now_us: int) -> Rollout:
    """All traffic back to stable. A rollout that never took traffic just ends.

    Raises:
        Conflict: it has ended already, or it is a first deployment with nothing to go back to.
    """
    if rollout.condition == "aborting":
        return rollout
    if not rollout.is_open:
        raise Conflict(
            f"Rollout {rollout.rollout_id} is {rollout.condition} already.",
            f"To return to an earlier version: steelyard rollback {rollout.model}.",
        )
    if rollout.step < 0:
        return replace(rollout, condition="degraded", ended_us=now_us, reason=reason)
    if rollout.stable is None:
        raise Conflict(
            f"Version {rollout.candidate} is the only one {rollout.model} has.",
            "Roll out a better version instead.",
        )
    return replace(rollout, condition="aborting", weight_bp=0, confirmed_us=None, reason=reason)


def _finish_abort(rollout: Rollout, now_us: int) -> Rollout:
    if rollout.confirmed_us is None:
        return rollout
    return replace(rollout, condition="degraded", ended_us=now_us)


def pause(rollout: Rollout) -> Rollout:
    """Keep the weight; evidence goes on, and so does the protection against a bad canary.

    Raises:
        Conflict: it is not between its first step and 100 %.
    """
    if rollout.condition == "paused":
        return rollout
    if rollout.condition != "progressing":
        raise _not_while(rollout, "paused")
    return replace(rollout, condition="paused", reason="paused by hand")


def resume(rollout: Rollout) -> Rollout:
    """Go on at the same step with the evidence kept.

    Raises:
        Conflict: it is not paused.
    """
    if rollout.condition == "progressing":
        return rollout
    if rollout.condition != "paused":
        raise _not_while(rollout, "resumed")
    return replace(rollout, condition="progressing", reason="resumed by hand")


def promote(rollout: Rollout, full: bool = False) -> Rollout:
    """Skip the rest of this step's bake and evidence, or (``full``) go to 100 % at once.

    Readiness is never skipped, and neither is the protection against a bad canary.

    Raises:
        Conflict: it is not between its first step and 100 %.
    """
    if rollout.condition == "promoting":
        return rollout
    if rollout.condition not in ("progressing", "paused"):
        raise _not_while(rollout, "promoted")
    return _at_step(rollout, len(rollout.plan.steps) - 1 if full else rollout.step + 1)


def _not_while(rollout: Rollout, act: str) -> Conflict:
    return Conflict(
        f"Rollout {rollout.rollout_id} is {rollout.condition} and cannot be {act} now.",
        f"See: steelyard rollout status {rollout.model}.",
    )
