"""The pure rule that moves a rollout.

The controller asks ``advance`` what should be; it never decides itself. The order is: guard, the
evidence against the canary, the reasons to hold, the approval, the next step.
"""

from dataclasses import replace

from steelyard.domain.analysis import Verdict, requests_needed
from steelyard.domain.errors import Conflict
from steelyard.domain.rollout import SECOND_US, Cause, Condition, Evidence, Recent, Rollout
from steelyard.domain.rollout_plan import Guard
from steelyard.domain.traffic import BUCKETS


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
    if rollout.condition == "awaiting_approval":
        return _awaiting(rollout, now_us)
    if rollout.condition == "paused" or rollout.confirmed_us is None:
        return rollout
    if rollout.condition == "promoting":
        return _promoted(rollout, now_us)
    if rollout.condition == "probation":
        return _on_probation(rollout, now_us)
    outage = _shared_outage(rollout, evidence.recent)
    if outage is not None:
        return paused(rollout, "shared_outage", outage, now_us)
    if now_us - rollout.created_us - rollout.waited_us > rollout.plan.deadline_s * SECOND_US:
        return _too_late(rollout, evidence, now_us)
    return _next_step(rollout, evidence, now_us)


def abort(rollout: Rollout, reason: str, now_us: int) -> Rollout:
    """All traffic back to stable. A rollout that never took traffic just ends.

    Raises:
        Conflict: it is a first deployment with nothing to go back to.
    """
    if rollout.step < 0:
        return replace(rollout, condition="degraded", ended_us=now_us, reason=reason)
    if rollout.stable is None:
        raise Conflict(
            f"Version {rollout.candidate} is the only one {rollout.model} has.",
            "Roll out a better version instead.",
        )
    return replace(
        rollout, condition="aborting", weight_bp=0, confirmed_us=None, reason=reason, cause="",
        since_us=None, stopped_us=None,
    )  # fmt: skip


def at_step(rollout: Rollout, step: int) -> Rollout:
    """The rollout with the weight of a step, which is not confirmed yet."""
    weight = rollout.plan.steps[step].weight_bp
    return replace(
        rollout,
        condition="promoting" if weight == BUCKETS else "progressing",
        step=step,
        weight_bp=weight,
        confirmed_us=None,
        cause="",
        since_us=None,
        stopped_us=None,
        reason=f"step {step + 1} of {len(rollout.plan.steps)}: {weight / 100:g} %",
    )


def onward(rollout: Rollout, now_us: int) -> Rollout:
    """To the next step, or to waiting for the approval that it needs."""
    following = rollout.step + 1
    if rollout.plan.steps[following].approval and rollout.approved < following:
        weight = rollout.plan.steps[following].weight_bp / 100
        reason = f"step {following + 1}, {weight:g} %, needs an approval"
        return replace(
            rollout, condition="awaiting_approval", cause="", since_us=now_us, reason=reason
        )
    return at_step(rollout, following)


def paused(rollout: Rollout, cause: Cause, reason: str, now_us: int) -> Rollout:
    """Keep the weight until somebody says how to go on."""
    return replace(rollout, condition="paused", cause=cause, since_us=now_us, reason=reason)


def _prepared(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    if evidence.readiness == "failed":
        reason = f"version {rollout.candidate} cannot serve: {evidence.readiness_reason}"
        return replace(rollout, condition="failed", ended_us=now_us, reason=reason)
    if evidence.readiness == "ready":
        return (
            at_step(rollout, rollout.first_step) if rollout.first_step else onward(rollout, now_us)
        )
    if now_us - rollout.created_us > rollout.plan.ready_within_s * SECOND_US:
        reason = f"version {rollout.candidate} was not ready in {rollout.plan.ready_within_s:g} s"
        return replace(rollout, condition="failed", ended_us=now_us, reason=reason)
    return replace(rollout, reason=f"waiting until version {rollout.candidate} is ready")


def _evidence_against(rollout: Rollout, evidence: Evidence) -> str | None:
    if rollout.kind != "canary":  # nothing to compare with, or nothing better to go back to
        return None
    if evidence.readiness in ("unhealthy", "failed"):
        return f"version {rollout.candidate} is {evidence.readiness}: {evidence.readiness_reason}"
    disaster = _disaster(rollout.plan.guard, evidence.recent)
    if disaster is not None:
        return disaster
    worse = [v for v in evidence.verdicts if v.judgement == "failed" and v.action == "rollback"]
    return f"worse than stable: {worse[0].summary}" if worse else None


def _disaster(guard: Guard, recent: Recent) -> str | None:
    """What the guard says without statistics, unless stable fails as well."""
    if not _stable_is_well(recent):
        return None
    row, units = recent.failed_in_a_row, recent.failing_units
    if row >= guard.consecutive and units >= guard.units:
        return f"guard: the canary's last {row} requests failed, of {units} units"
    if _too_many(guard, recent):
        return f"guard: {recent.canary[1]} of the canary's last {recent.canary[0]} requests failed"
    return None


def _too_many(guard: Guard, recent: Recent) -> bool:
    n, x = recent.canary
    return n >= guard.requests and x >= guard.share * n


def _stable_is_well(recent: Recent) -> bool:
    """Whether stable failed less than half as often as the canary, or was not asked."""
    (n, x), (base_n, base_x) = recent.canary, recent.stable
    return base_n == 0 or 2 * base_x * n < x * base_n


def _shared_outage(rollout: Rollout, recent: Recent) -> str | None:
    if rollout.kind != "canary" or not _too_many(rollout.plan.guard, recent):
        return None
    if rollout.resumed_us is not None and rollout.resumed_us > (rollout.confirmed_us or 0):
        return None
    return (
        f"paused: both versions fail, canary {recent.canary[1]} of {recent.canary[0]}, "
        f"stable {recent.stable[1]} of {recent.stable[0]} in the last interval"
    )


def _promoted(rollout: Rollout, now_us: int) -> Rollout:
    if rollout.kind == "canary" and rollout.plan.probation_s:
        return replace(rollout, condition="probation", since_us=now_us, reason="on probation")
    return _healthy(rollout, "took all traffic", now_us)


def _on_probation(rollout: Rollout, now_us: int) -> Rollout:
    assert rollout.since_us is not None
    if rollout.stopped_us is not None:
        return rollout
    left_s = rollout.plan.probation_s - (now_us - rollout.since_us) / SECOND_US
    if left_s <= 0:
        return _healthy(rollout, "took all traffic and passed its probation", now_us)
    return replace(rollout, reason=f"on probation, {left_s:.0f} s left")


def _healthy(rollout: Rollout, reason: str, now_us: int) -> Rollout:
    return replace(rollout, condition="healthy", ended_us=now_us, reason=reason, since_us=None)


def _awaiting(rollout: Rollout, now_us: int) -> Rollout:
    assert rollout.since_us is not None
    if rollout.stopped_us is not None:
        return rollout
    if now_us - rollout.since_us > rollout.plan.approval_timeout_s * SECOND_US:
        return abort(rollout, f"no approval in {rollout.plan.approval_timeout_s:g} s", now_us)
    return rollout


def _too_late(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    limit = f"{rollout.plan.deadline_s:g} s"
    if evidence.requests == 0:
        return paused(rollout, "no_data", f"paused: no canary request in {limit}", now_us)
    return abort(rollout, f"not through its steps in {limit}: {rollout.reason}", now_us)


def _next_step(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    assert rollout.confirmed_us is not None
    step = rollout.plan.steps[rollout.step]
    baked_us = now_us - rollout.confirmed_us
    if baked_us < step.bake_s * SECOND_US:
        left = step.bake_s - baked_us / SECOND_US
        return replace(rollout, reason=f"baking at {step.weight_bp / 100:g} %, {left:.0f} s left")
    hold = _hold(rollout, evidence)
    if hold is not None:
        return _held(rollout, hold, now_us)
    doubt = [v for v in evidence.verdicts if v.action == "pause" and v.judgement == "failed"]
    if doubt and not _overruled(rollout):
        return paused(rollout, "metric", f"paused: {doubt[0].summary}", now_us)
    return onward(rollout, now_us)


def _hold(rollout: Rollout, evidence: Evidence) -> str | None:
    """What is missing for the next step."""
    missing = rollout.plan.steps[rollout.step].min_requests - evidence.step_requests
    if missing > 0:
        return f"hold: needs {missing} more canary requests"
    if rollout.plan.steps[rollout.step + 1].weight_bp == BUCKETS:
        return _unproven(rollout, evidence)
    return None


def _held(rollout: Rollout, hold: str, now_us: int) -> Rollout:
    """Wait, but not for ever: past the limit a person decides, or the plan does."""
    plan, step = rollout.plan, rollout.plan.steps[rollout.step]
    assert rollout.confirmed_us is not None
    since_us = rollout.confirmed_us + step.bake_s * SECOND_US
    if rollout.resumed_us is not None:
        since_us = max(since_us, rollout.resumed_us)
    limit_s = plan.inconclusive_limit * plan.interval_s
    if now_us - since_us <= limit_s * SECOND_US:
        return replace(rollout, reason=hold)
    said = f"no verdict in {limit_s:g} s past the bake: {hold.removeprefix('hold: ')}"
    if plan.on_inconclusive == "abort":
        return abort(rollout, said, now_us)
    return paused(rollout, "inconclusive", f"paused: {said}", now_us)


def _overruled(rollout: Rollout) -> bool:
    """Whether a person said in this step that it goes on whatever made it pause."""
    return rollout.resumed_us is not None and rollout.resumed_us >= (rollout.confirmed_us or 0)


def _unproven(rollout: Rollout, evidence: Evidence) -> str | None:
    """Why 100 % must wait: a required metric without the verdict "successful"."""
    verdicts: dict[str, Verdict] = {v.metric: v for v in evidence.verdicts}
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


def _finish_abort(rollout: Rollout, now_us: int) -> Rollout:
    if rollout.confirmed_us is None:
        return rollout
    ended: Condition = "degraded"
    return replace(rollout, condition=ended, ended_us=now_us)
