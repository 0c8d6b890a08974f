"""What a person may do to a rollout, and what comes of it in each condition.

Every verb has a result in every condition: the rollout as it becomes, the same one where there is
nothing to do, or a refusal. docs/reference/rollout-verbs.md is made from this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, get_args

from steelyard.domain.advance import abort as aborted
from steelyard.domain.advance import at_step, onward, paused
from steelyard.domain.errors import Conflict
from steelyard.domain.rollout import Condition, Rollout

Verb = Literal["promote", "promote_full", "pause", "resume", "abort", "approve", "reject"]
VERBS: tuple[Verb, ...] = get_args(Verb)
Rule = Callable[[Rollout, int], Rollout]
STOPPED = "; stopped by hand"


def act(verb: Verb, rollout: Rollout, now_us: int, reason: str = "") -> Rollout:
    """The rollout after somebody did this.

    Raises:
        Conflict: the verb does not fit its condition; the message says what does.
    """
    rule = RULES[verb].get(rollout.condition)
    if rule is None:
        raise Conflict(
            f"Rollout {rollout.rollout_id} is {_words(rollout.condition)}, "
            f"so this cannot be done: {_words(verb)}.",
            _instead(verb, rollout),
        )
    after = rule(rollout, now_us)
    return replace(after, reason=reason) if reason and after != rollout else after


def _same(rollout: Rollout, _: int) -> Rollout:
    return rollout


def _to_the_end(rollout: Rollout, _: int) -> Rollout:
    """Skips steps, bakes, evidence and approvals; never readiness."""
    return at_step(rollout, len(rollout.plan.steps) - 1)


def _when_ready(rollout: Rollout, _: int) -> Rollout:
    reason = f"waiting until version {rollout.candidate} is ready, then 100 %"
    return replace(rollout, first_step=len(rollout.plan.steps) - 1, reason=reason)


def _onward(rollout: Rollout, now_us: int) -> Rollout:
    return onward(_counted(rollout, now_us), now_us)


def _out_of_probation(rollout: Rollout, now_us: int) -> Rollout:
    return replace(
        rollout, condition="healthy", ended_us=now_us, since_us=None, stopped_us=None,
        reason="took all traffic; its probation was ended by hand",
    )  # fmt: skip


def _paused(rollout: Rollout, now_us: int) -> Rollout:
    return paused(rollout, "manual", "paused by hand", now_us)


def _clock_stopped(rollout: Rollout, now_us: int) -> Rollout:
    if rollout.stopped_us is not None:
        return rollout
    return replace(rollout, stopped_us=now_us, reason=rollout.reason + STOPPED)


def _clock_running(rollout: Rollout, now_us: int) -> Rollout:
    if rollout.stopped_us is None:
        return rollout
    away_us = now_us - rollout.stopped_us
    return replace(
        rollout, stopped_us=None, since_us=(rollout.since_us or now_us) + away_us,
        waited_us=rollout.waited_us + away_us, reason=rollout.reason.removesuffix(STOPPED),
    )  # fmt: skip


def _resumed(rollout: Rollout, now_us: int) -> Rollout:
    return replace(
        _counted(rollout, now_us), condition="progressing", cause="", since_us=None,
        resumed_us=now_us, reason="resumed by hand",
    )  # fmt: skip


def _approved(rollout: Rollout, now_us: int) -> Rollout:
    counted = _counted(rollout, now_us)
    return at_step(replace(counted, approved=rollout.step + 1), rollout.step + 1)


def _aborted(rollout: Rollout, now_us: int) -> Rollout:
    return aborted(rollout, "aborted by hand", now_us)


def _rejected(rollout: Rollout, now_us: int) -> Rollout:
    return aborted(rollout, "the next step was rejected", now_us)


def _counted(rollout: Rollout, now_us: int) -> Rollout:
    """Time in which it waited for a person is not the rollout's: the deadline does not count it."""
    if rollout.condition not in ("paused", "awaiting_approval") or rollout.since_us is None:
        return rollout
    return replace(
        rollout, waited_us=rollout.waited_us + now_us - rollout.since_us, stopped_us=None
    )


RULES: Mapping[Verb, Mapping[Condition, Rule]] = {
    "promote": {
        "progressing": _onward, "paused": _onward, "promoting": _same,
        "probation": _out_of_probation, "healthy": _same,
    },
    "promote_full": {
        "preparing": _when_ready, "progressing": _to_the_end, "paused": _to_the_end,
        "awaiting_approval": _to_the_end, "promoting": _same, "probation": _out_of_probation,
        "healthy": _same,
    },
    "pause": {
        "preparing": _same, "progressing": _paused, "paused": _same,
        "awaiting_approval": _clock_stopped, "promoting": _same, "probation": _clock_stopped,
    },
    "resume": {
        "progressing": _same, "paused": _resumed, "awaiting_approval": _clock_running,
        "promoting": _same, "probation": _clock_running,
    },
    "abort": {
        "preparing": _aborted, "progressing": _aborted, "paused": _aborted,
        "awaiting_approval": _aborted, "promoting": _aborted, "probation": _aborted,
        "aborting": _same, "degraded": _same, "failed": _same,
    },
    "approve": {"awaiting_approval": _approved},
    "reject": {"awaiting_approval": _rejected},
}  # fmt: skip


def _words(name: str) -> str:
    return name.replace("_", " ")


def _instead(verb: Verb, rollout: Rollout) -> str:
    if verb == "abort":
        return f"To return to the version before: steelyard rollback {rollout.model}."
    if verb == "promote" and rollout.condition == "awaiting_approval":
        return f"Approve the step: steelyard rollout approve {rollout.model}."
    return f"See: steelyard rollout status {rollout.model}."
