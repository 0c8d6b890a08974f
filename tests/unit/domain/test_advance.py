"""The rule beyond steps and verdicts: guard, shared outage, approvals, time limits, probation."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.advance import abort, advance
from steelyard.domain.analysis import Action, Judgement, MetricName, Verdict
from steelyard.domain.rollout import Condition, Evidence, Kind, Recent, Rollout
from steelyard.domain.rollout_plan import Guard, Plan, Step, default_metrics
from steelyard.domain.rollout_verbs import act

SECOND = 1_000_000
PLAN = Plan(
    (Step(500, 60.0), Step(2_500, 60.0), Step(5_000, 60.0, approval=True), Step(10_000)),
    default_metrics(), interval_s=10.0, deadline_s=3_600.0, approval_timeout_s=600.0,
    inconclusive_limit=12, probation_s=300.0,
)  # fmt: skip
LIVE_US = 1_000 * SECOND


def _at(step: int, condition: Condition = "progressing", **changes: Any) -> Rollout:
    """A canary whose step is live since second 1000."""
    start = Rollout("r1", "m", "canary", 1, 2, PLAN, "r1", 0, "ada", condition, step,
                    PLAN.steps[step].weight_bp if step >= 0 else 0)  # fmt: skip
    confirmed_us = LIVE_US if step >= 0 else None
    return replace(start, **{"generation": step + 1, "confirmed_us": confirmed_us, **changes})


def _verdict(
    judgement: Judgement, metric: MetricName = "errors", action: Action = "rollback"
) -> Verdict:
    return Verdict(metric, judgement, action, metric == "errors", 0.0, 3.7, 0.0, math.log(20),
                   (400, 1), (400, 1))  # fmt: skip


GOOD, UNSURE, BAD = (
    (_verdict(judgement),) for judgement in ("successful", "inconclusive", "failed")
)  # fmt: skip


def _evidence(**known: Any) -> Evidence:
    return Evidence(**{"readiness": "ready", "verdicts": GOOD, "step_requests": 500,
                       "requests": 500, **known})  # fmt: skip


def _row(failed: int, units: int, canary: tuple[int, int], stable: tuple[int, int]) -> Evidence:
    return _evidence(recent=Recent(failed, units, canary, stable))


def _after(seconds: int) -> int:
    """So long after the step went live."""
    return LIVE_US + seconds * SECOND


# --- intervals that are not counted yet


@pytest.mark.parametrize(
    "rollout",
    [
        _at(0),
        _at(3, "promoting"),
        _at(3, "probation", since_us=LIVE_US),
        _at(1, "awaiting_approval", since_us=LIVE_US),
    ],
    ids=lambda one: one.condition,
)
def test_nothing_goes_on_while_complete_intervals_are_not_counted(rollout: Rollout) -> None:
    """They may speak against it; what is known to be bad is taken back all the same."""
    late_us = _after(3_000)
    assert advance(rollout, _evidence(), late_us) != rollout
    assert advance(rollout, _evidence(is_behind=True), late_us) == rollout
    after = advance(rollout, _evidence(is_behind=True, verdicts=BAD), late_us)
    assert after.condition == "aborting"


# --- guard


@pytest.mark.parametrize(
    ("evidence", "falls"),
    [
        (_row(10, 3, (10, 10), (90, 0)), True),
        (_row(9, 3, (10, 9), (90, 0)), False),
        (_row(10, 2, (10, 10), (90, 0)), False),
        (_row(10, 3, (10, 10), (0, 0)), True),
        (_row(10, 3, (10, 10), (90, 44)), True),
        (_row(10, 3, (10, 10), (90, 45)), False),
        (_row(0, 0, (50, 10), (450, 0)), True),
        (_row(0, 0, (50, 9), (450, 0)), False),
        (_row(0, 0, (49, 49), (450, 0)), False),
        (_row(0, 0, (50, 10), (450, 44)), True),
        (_row(0, 0, (50, 10), (0, 0)), True),
    ],
)
def test_the_guard_needs_no_statistics(evidence: Evidence, falls: bool) -> None:
    """Ten failures in a row of three units, or a fifth of fifty, while stable fails half as often.

    One unit alone cannot end a rollout that way, however often it asks.
    """
    after = advance(_at(0), evidence, _after(1))
    assert (after.condition == "aborting") == falls
    assert after.reason.startswith("guard: ") == falls


@pytest.mark.parametrize(
    "condition", ["progressing", "paused", "awaiting_approval", "promoting", "probation"]
)
def test_the_guard_acts_in_every_condition_with_weight(condition: Condition) -> None:
    """Whatever somebody waits for, and also before the edge has confirmed the weight."""
    for confirmed_us in (None, LIVE_US):
        rollout = _at(3, condition, since_us=LIVE_US, confirmed_us=confirmed_us)
        after = advance(rollout, _row(10, 3, (10, 10), (90, 0)), _after(1))
        assert (after.condition, after.weight_bp, after.since_us) == ("aborting", 0, None)


def test_a_guard_of_one_s_own_is_obeyed() -> None:
    """Fewer failures, of one unit, or a smaller share."""
    strict = Guard(consecutive=3, units=1, share=0.1, requests=20)
    rollout = _at(0, plan=replace(PLAN, guard=strict))
    assert advance(rollout, _row(3, 1, (3, 3), (9, 0)), _after(1)).condition == "aborting"
    assert advance(rollout, _row(0, 0, (20, 2), (9, 0)), _after(1)).condition == "aborting"
    assert advance(rollout, _row(2, 1, (19, 9), (9, 0)), _after(1)).condition == "progressing"


# --- shared outage


OUTAGE = _row(50, 40, (50, 40), (450, 300))


def test_an_outage_of_both_versions_is_no_reason_to_go_back() -> None:
    """It pauses, and says what both did; the evidence may still speak against the canary."""
    after = advance(_at(0), OUTAGE, _after(1))
    assert (after.condition, after.cause, after.since_us) == ("paused", "shared_outage", _after(1))
    assert (after.weight_bp, after.step) == (500, 0)
    assert "canary 40 of 50, stable 300 of 450" in after.reason
    worse = replace(OUTAGE, verdicts=BAD)
    assert advance(_at(0), worse, _after(1)).condition == "aborting"


def test_who_resumes_in_an_outage_is_not_stopped_by_it_again() -> None:
    """In this step; in the next one it is asked anew."""
    paused = advance(_at(0), OUTAGE, _after(1))
    resumed = act("resume", paused, _after(20))
    assert advance(resumed, OUTAGE, _after(30)).condition == "progressing"
    later = replace(resumed, step=1, weight_bp=2_500, confirmed_us=_after(90))
    assert advance(later, OUTAGE, _after(100)).cause == "shared_outage"


@pytest.mark.parametrize("kind", ["first", "undo"])
def test_what_cannot_go_back_is_not_paused_by_an_outage(kind: Kind) -> None:
    """There is nothing beside it that is better."""
    assert advance(_at(0, kind=kind), OUTAGE, _after(61)).condition == "progressing"


# --- approval


def test_a_step_with_an_approval_waits_for_it() -> None:
    """At the weight of the step before, until somebody approves it or the time is over."""
    waiting = advance(_at(1), _evidence(), _after(61))
    assert (waiting.condition, waiting.phase) == ("awaiting_approval", "paused")
    assert (waiting.step, waiting.weight_bp, waiting.since_us) == (1, 2_500, _after(61))
    assert waiting.reason == "step 3, 50 %, needs an approval"
    assert advance(waiting, _evidence(), _after(661)) == waiting
    late = advance(waiting, _evidence(), _after(662))
    assert (late.condition, late.reason) == ("aborting", "no approval in 600 s")
    approved = act("approve", waiting, _after(500))
    assert (approved.condition, approved.step, approved.weight_bp) == ("progressing", 2, 5_000)


def test_nobody_is_asked_twice_for_the_same_step() -> None:
    """A step that was approved is entered, for whatever reason it was not reached before."""
    assert advance(_at(1, approved=2), _evidence(), _after(61)).step == 2


def test_a_stopped_wait_does_not_time_out() -> None:
    """Until its clock runs again, and then as long as was left."""
    waiting = advance(_at(1), _evidence(), _after(61))
    stopped = act("pause", waiting, _after(561))
    assert advance(stopped, _evidence(), _after(9_000)) == stopped
    running = act("resume", stopped, _after(9_061))
    assert advance(running, _evidence(), _after(9_161)).condition == "awaiting_approval"
    assert advance(running, _evidence(), _after(9_162)).condition == "aborting"


def test_the_first_step_may_need_an_approval_too() -> None:
    """Ready, but without traffic until somebody says so; nothing is to be taken back."""
    plan = replace(PLAN, steps=(Step(500, 60.0, approval=True), Step(10_000)))
    waiting = advance(_at(-1, "preparing", plan=plan), _evidence(), LIVE_US)
    assert (waiting.condition, waiting.step, waiting.weight_bp) == ("awaiting_approval", -1, 0)
    assert advance(waiting, _evidence(), _after(600)) == waiting
    assert advance(waiting, _evidence(), _after(601)).condition == "degraded"
    approved = act("approve", waiting, _after(5))
    assert (approved.condition, approved.step, approved.weight_bp) == ("progressing", 0, 500)


# --- deadline


def test_a_rollout_without_an_end_is_aborted_at_its_deadline() -> None:
    """With requests, and no verdict: it goes back, and says what was missing."""
    held = _at(2, reason="hold: errors not proven")
    assert advance(held, _evidence(), 3_600 * SECOND).condition == "promoting"
    after = advance(held, _evidence(), 3_600 * SECOND + 1)
    assert after.condition == "aborting"
    assert after.reason == "not through its steps in 3600 s: hold: errors not proven"


def test_nobody_asked_until_the_deadline() -> None:
    """No request is no failure: it pauses and says why."""
    after = advance(_at(0), _evidence(requests=0, step_requests=0), 3_601 * SECOND)
    assert (after.condition, after.cause, after.weight_bp) == ("paused", "no_data", 500)
    assert after.reason == "paused: no canary request in 3600 s"


def test_waiting_for_a_person_is_not_the_rollout_s_time() -> None:
    """The deadline moves by as long as it was paused by hand or waited for an approval."""
    paused = act("pause", _at(0), _after(10))
    resumed = act("resume", paused, _after(5_010))
    assert resumed.waited_us == 5_000 * SECOND
    assert advance(resumed, _evidence(verdicts=UNSURE), 8_600 * SECOND).condition == "progressing"
    assert advance(resumed, _evidence(), 8_601 * SECOND).condition == "aborting"
    waiting = advance(_at(1), _evidence(), _after(61))
    approved = replace(act("approve", waiting, _after(361)), confirmed_us=_after(361))
    assert approved.waited_us == 300 * SECOND
    assert advance(approved, _evidence(verdicts=UNSURE), 3_900 * SECOND).condition != "aborting"
    assert advance(approved, _evidence(verdicts=UNSURE), 3_901 * SECOND).condition == "aborting"


# --- no verdict


LONG = replace(PLAN, deadline_s=86_400.0)


def test_no_verdict_is_a_person_s_question_after_a_while() -> None:
    """Twelve intervals past the bake it pauses; resuming gives it as much time once more."""
    held = _at(2, plan=LONG)
    unsure = _evidence(verdicts=UNSURE)
    assert advance(held, unsure, _after(180)).condition == "progressing"
    paused = advance(held, unsure, _after(181))
    assert (paused.condition, paused.cause) == ("paused", "inconclusive")
    assert "no verdict in 120 s past the bake: errors not proven" in paused.reason
    assert advance(paused, unsure, _after(9_000)) == paused
    resumed = act("resume", paused, _after(1_000))
    assert advance(resumed, unsure, _after(1_120)).condition == "progressing"
    again = advance(resumed, unsure, _after(1_121))
    assert (again.condition, again.cause) == ("paused", "inconclusive")


def test_too_few_requests_are_no_verdict_either() -> None:
    """The limit counts for what is missing of the step's requests as well."""
    plan = replace(LONG, steps=(Step(500, 60.0, 100), Step(10_000)))
    few = _evidence(step_requests=40)
    assert "needs 60 more" in advance(_at(0, plan=plan), few, _after(180)).reason
    after = advance(_at(0, plan=plan), few, _after(181))
    assert (after.cause, after.condition) == ("inconclusive", "paused")
    assert "needs 60 more canary requests" in after.reason


def test_a_plan_may_give_up_instead_of_asking() -> None:
    """``on_inconclusive: abort``."""
    rollout = _at(2, plan=replace(LONG, on_inconclusive="abort"))
    after = advance(rollout, _evidence(verdicts=UNSURE), _after(181))
    assert after.condition == "aborting"
    assert after.reason.startswith("no verdict in 120 s past the bake")


def test_resuming_overrules_a_doubt_in_this_step_only() -> None:
    """A metric that pauses has been seen by a person; in the next step it pauses again."""
    doubt = _evidence(verdicts=(*GOOD, _verdict("failed", "cost", "pause")))
    paused = advance(_at(0, plan=LONG), doubt, _after(61))
    assert (paused.condition, paused.cause) == ("paused", "metric")
    assert paused.reason.startswith("paused: cost: canary 1/400")
    resumed = act("resume", paused, _after(70))
    on = advance(resumed, doubt, _after(71))
    assert (on.condition, on.step) == ("progressing", 1)
    live = replace(on, confirmed_us=_after(80))
    assert advance(live, doubt, _after(141)).cause == "metric"


# --- probation


def test_a_version_on_probation_has_all_traffic_but_not_the_name() -> None:
    """For as long as the plan says; the old one is warm, and evidence still counts."""
    probation = advance(_at(3, "promoting"), _evidence(), _after(5))
    assert (probation.condition, probation.phase, probation.is_open) == (
        "probation", "progressing", True,
    )  # fmt: skip
    assert (probation.weight_bp, probation.since_us) == (10_000, _after(5))
    assert "300 s left" in advance(probation, _evidence(), _after(5)).reason
    done = advance(probation, _evidence(), _after(305))
    assert (done.condition, done.ended_us) == ("healthy", _after(305))
    assert done.reason == "took all traffic and passed its probation"
    late = _evidence(verdicts=(*GOOD, _verdict("failed", "labels")))
    after = advance(probation, late, _after(304))
    assert (after.condition, after.weight_bp, after.since_us) == ("aborting", 0, None)
    assert "worse than stable: labels" in after.reason


def test_a_stopped_probation_goes_on_until_somebody_lets_it_run() -> None:
    """Guarded all the while."""
    probation = advance(_at(3, "promoting"), _evidence(), _after(0))
    stopped = act("pause", probation, _after(200))
    assert advance(stopped, _evidence(), _after(9_000)) == stopped
    assert advance(stopped, _evidence(verdicts=BAD), _after(9_000)).condition == "aborting"
    running = act("resume", stopped, _after(9_000))
    assert advance(running, _evidence(), _after(9_099)).condition == "probation"
    assert advance(running, _evidence(), _after(9_100)).condition == "healthy"


@pytest.mark.parametrize("kind", ["first", "undo"])
def test_only_a_canary_is_on_probation(kind: Kind) -> None:
    """Nothing that could answer instead is kept for the others."""
    assert advance(_at(3, "promoting", kind=kind), _evidence(), _after(5)).condition == "healthy"


# --- the step to begin with


def test_a_version_may_begin_with_the_last_step() -> None:
    """As an operator asked while it was preparing: ready first, then all of it, approvals too."""
    preparing = act("promote_full", _at(-1, "preparing"), 5)
    starting = _evidence(readiness="starting")
    assert advance(preparing, starting, 9).condition == "preparing"
    after = advance(preparing, _evidence(), 10)
    assert (after.condition, after.step, after.weight_bp) == ("promoting", 3, 10_000)


# --- whatever happens


verdicts = st.builds(
    _verdict, st.sampled_from(["successful", "inconclusive", "failed"]),
    st.sampled_from(["errors", "labels", "cost"]), st.sampled_from(["rollback", "pause"]),
)  # fmt: skip
pairs = st.integers(0, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
evidences = st.builds(
    Evidence, st.sampled_from(["starting", "ready", "unhealthy", "failed"]), st.just("odd"),
    st.lists(verdicts, max_size=3, unique_by=lambda v: v.metric).map(tuple), st.integers(0, 500),
    st.integers(0, 500), st.builds(Recent, st.integers(0, 30), st.integers(0, 30), pairs, pairs),
)  # fmt: skip


@given(
    evidences, st.integers(-1, 3),
    st.sampled_from(["progressing", "paused", "awaiting_approval", "promoting", "probation"]),
    st.integers(0, 10_000), st.booleans(),
)  # fmt: skip
def test_the_rule_answers_for_whatever_is_known(
    evidence: Evidence, step: int, condition: Condition, seconds: int, confirmed: bool
) -> None:
    """Decided again on the same, it says the same, and no weight grows but to the next step's."""
    rollout = _at(step, condition if step >= 0 else "preparing", since_us=LIVE_US,
                  confirmed_us=LIVE_US if confirmed and step >= 0 else None)  # fmt: skip
    now = seconds * SECOND
    after = advance(rollout, evidence, now)
    assert advance(rollout, evidence, now) == after
    assert advance(after, evidence, now).weight_bp in (after.weight_bp, 0)
    bad = evidence.readiness in ("unhealthy", "failed") or any(
        v.judgement == "failed" and v.action == "rollback" for v in evidence.verdicts
    )
    if bad and step >= 0:
        assert (after.condition, after.weight_bp) == ("aborting", 0)
    following = PLAN.steps[step + 1].weight_bp if step < 3 else 10_000
    assert after.weight_bp in (0, rollout.weight_bp, following)


def test_an_abort_leaves_nothing_of_the_wait() -> None:
    """Neither why it was paused nor since when."""
    after = abort(_at(0, "paused", cause="manual", since_us=LIVE_US, stopped_us=5), "odd", 9)
    assert (after.cause, after.since_us, after.stopped_us) == ("", None, None)
