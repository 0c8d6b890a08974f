"""How far a candidate is: what it lacks for its next step, and how it stands to the others."""

from collections.abc import Iterable

from steelyard.domain.analysis import Metric, Verdict, requests_needed
from steelyard.domain.rollout import SECOND_US, Evidence, Rival, Rollout, Standing
from steelyard.domain.traffic import BUCKETS


def rival(rollout: Rollout, evidence: Evidence, now_us: int) -> Rival:
    """How a rollout looks to the other candidates of its model."""
    return Rival(rollout.candidate, _standing(rollout, evidence, now_us), rate(rollout, evidence))


def _standing(rollout: Rollout, evidence: Evidence, now_us: int) -> Standing:
    steps = rollout.plan.steps
    if rollout.weight_bp == BUCKETS or rollout.first_step == len(steps) - 1:
        return "chosen"
    if not is_last_share(rollout):
        return "undecided"
    if rollout.condition == "awaiting_approval":
        return "chosen"
    return "proven" if is_proven(rollout, evidence, now_us) else "undecided"


def is_proven(rollout: Rollout, evidence: Evidence, now_us: int) -> bool:
    """Whether nothing of its own keeps it from all traffic."""
    if rollout.condition != "progressing" and rollout.cause != "choice":
        return False
    if rollout.confirmed_us is None or not is_last_share(rollout):
        return False
    baked_us = now_us - rollout.confirmed_us
    if baked_us < rollout.plan.steps[rollout.step].bake_s * SECOND_US:
        return False
    return lack(rollout, evidence) is None and doubt(rollout, evidence) is None


def is_last_share(rollout: Rollout) -> bool:
    """Whether the next step is all traffic."""
    steps = rollout.plan.steps
    return 0 <= rollout.step < len(steps) - 1 and steps[rollout.step + 1].weight_bp == BUCKETS


def rate(rollout: Rollout, evidence: Evidence) -> float | None:
    """The canary's observed rate or mean in the metric that chooses the winner."""
    for verdict in evidence.verdicts:
        if verdict.metric == rollout.plan.winner and verdict.canary[0]:
            return verdict.canary[1] / verdict.canary[0]
    return None


def lack(rollout: Rollout, evidence: Evidence) -> str | None:
    """What is missing for the next step."""
    step, following = rollout.plan.steps[rollout.step : rollout.step + 2]
    missing = step.min_requests - evidence.step_requests
    if missing > 0:
        what = "canary requests" if step.weight_bp else "answers in the shadow"
        return f"hold: needs {missing} more {what}"
    if following.weight_bp == BUCKETS:
        return _unproven(evidence, rollout.plan.metrics)
    if step.weight_bp == 0:  # no client meets it before its answers are known to be alike
        return _unproven(evidence, [m for m in rollout.plan.metrics if m.kind == "limit"])
    return None


def _unproven(evidence: Evidence, metrics: Iterable[Metric]) -> str | None:
    """What must be waited for: a required metric without the verdict "successful"."""
    verdicts: dict[str, Verdict] = {v.metric: v for v in evidence.verdicts}
    for metric in metrics:
        if not metric.required:
            continue
        verdict = verdicts.get(metric.name)
        if verdict is None:
            return f"hold: no evidence on {metric.name} yet"
        if verdict.judgement != "successful":
            needed = requests_needed(verdict, metric.bearable)
            what = "pairs" if metric.kind == "limit" else "canary requests"
            more = f", needs about {needed} more {what}" if needed else ""
            return f"hold: {metric.name} not proven{more}"
    return None


def doubt(rollout: Rollout, evidence: Evidence) -> str | None:
    """A metric that only pauses and has failed, unless a person has overruled it."""
    failed = [v for v in evidence.verdicts if v.action == "pause" and v.judgement == "failed"]
    return failed[0].summary if failed and not overruled(rollout) else None


def overruled(rollout: Rollout) -> bool:
    """Whether a person said in this step that it goes on whatever made it pause."""
    return rollout.resumed_us is not None and rollout.resumed_us >= (rollout.confirmed_us or 0)
