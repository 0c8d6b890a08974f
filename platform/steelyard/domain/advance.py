"""The pure rule that moves a rollout.

The controller asks ``advance`` what should be; it never decides itself. The order is: guard, the
evidence against the canary, the reasons to hold, the approval, the next step.
"""

from dataclasses import replace

from steelyard.domain.choice import claim
from steelyard.domain.errors import Conflict
from steelyard.domain.guard import disaster, too_many
from steelyard.domain.proof import doubt, is_last_share, is_proven, lack, overruled, rate
from steelyard.domain.rollout import (
    SECOND_US,
    Cause,
    Condition,
    Evidence,
    Recent,
    Rival,
    Rollout,
)
from steelyard.domain.traffic import BUCKETS


def advance(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    """What the rollout should be, given what is known now. Pure; calling it again is harmless.

    While the canary has weight, its health and the evidence against it are judged first, in
    every condition; then pause, then the bake, then the next step. Nothing but harm moves it while
    complete intervals wait to be counted.
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
    if evidence.is_behind:  # what is not counted yet may speak against it
        return rollout
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
    if _is_late(rollout, now_us) and not _waits_for_rivals(rollout, evidence, now_us):
        return _too_late(rollout, evidence, now_us)
    return _next_step(rollout, evidence, now_us)


def abort(rollout: Rollout, reason: str, now_us: int) -> Rollout:
    """All traffic back to stable. A rollout that takes none, as in a shadow step, just ends.

    Raises:
        Conflict: it is a first deployment with nothing to go back to.
    """
    if rollout.weight_bp == 0:
        return replace(
            rollout, condition="degraded", ended_us=now_us, reason=reason, cause="",
            since_us=None, stopped_us=None,
        )  # fmt: skip
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
    there = rollout.step_at(step)
    return replace(
        rollout,
        condition="promoting" if there.weight_bp == BUCKETS else "progressing",
        step=step,
        weight_bp=there.weight_bp,
        confirmed_us=None,
        cause="",
        since_us=None,
        stopped_us=None,
        reason=f"step {step + 1} of {len(rollout.plan.steps)}: {there.said}",
    )


def onward(rollout: Rollout, now_us: int) -> Rollout:
    """To the next step, or to waiting for the approval that it needs."""
    following = rollout.step + 1
    there = rollout.step_at(following)
    if there.approval and rollout.approved < following:
        reason = f"step {following + 1}, {there.said}, needs an approval"
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
    guarded = disaster(rollout.plan.guard, evidence.recent)
    if guarded is not None:
        return guarded
    worse = [v for v in evidence.verdicts if v.judgement == "failed" and v.action == "rollback"]
    return f"worse than stable: {worse[0].summary}" if worse else None


def _shared_outage(rollout: Rollout, recent: Recent) -> str | None:
    if rollout.kind != "canary" or not too_many(rollout.plan.guard, recent):
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
    step = rollout.step_at(rollout.step)
    baked_us = now_us - rollout.confirmed_us
    if baked_us < step.bake_s * SECOND_US:
        left = step.bake_s - baked_us / SECOND_US
        return replace(rollout, reason=f"baking at {step.said}, {left:.0f} s left")
    missing = lack(rollout, evidence)
    if missing is not None:
        return _held(rollout, missing, now_us)
    failed = doubt(rollout, evidence)
    if failed is not None:
        return paused(rollout, "metric", f"paused: {failed}", now_us)
    if is_last_share(rollout):
        return _to_all(rollout, evidence, now_us)
    return onward(rollout, now_us)


def _to_all(rollout: Rollout, evidence: Evidence, now_us: int) -> Rollout:
    """Onward to all traffic, unless other candidates claim it too."""
    mine = Rival(rollout.candidate, "proven", rate(rollout, evidence))
    found = claim(mine, evidence.rivals, rollout.plan.winner)
    if found.verdict == "take":
        return onward(rollout, now_us)
    if found.verdict == "ask" and not _asked_lately(rollout, now_us):
        return paused(rollout, "choice", f"paused: {found.reason}", now_us)
    return replace(rollout, reason=found.reason)


def _is_late(rollout: Rollout, now_us: int) -> bool:
    taken_us = now_us - rollout.created_us - rollout.waited_us
    return taken_us > rollout.plan.deadline_s * SECOND_US


def _waits_for_rivals(rollout: Rollout, evidence: Evidence, now_us: int) -> bool:
    """Whether it is through its own steps and was only kept waiting: no deadline ends that."""
    return len(rollout.plan.candidates) > 1 and is_proven(rollout, evidence, now_us)


def _asked_lately(rollout: Rollout, now_us: int) -> bool:
    """Whether a person said to go on waiting, and the time for that is not over."""
    if not overruled(rollout):
        return False
    assert rollout.resumed_us is not None
    limit_s = rollout.plan.inconclusive_limit * rollout.plan.interval_s
    return now_us - rollout.resumed_us <= limit_s * SECOND_US


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


def _finish_abort(rollout: Rollout, now_us: int) -> Rollout:
    if rollout.confirmed_us is None:
        return rollout
    ended: Condition = "degraded"
    return replace(rollout, condition=ended, ended_us=now_us)
