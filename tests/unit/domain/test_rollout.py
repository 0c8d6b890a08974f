import math
from dataclasses import replace
from typing import Any

import pytest

from steelyard.domain.advance import abort, advance
from steelyard.domain.analysis import Action, Judgement, Metric, MetricName, Verdict
from steelyard.domain.errors import Conflict, InvalidInput
from steelyard.domain.rollout import Evidence, Kind, Rollout
from steelyard.domain.rollout_plan import Plan, Step, check_plan, default_metrics
from steelyard.domain.rollout_verbs import act

SECOND = 1_000_000
PLAN = Plan(
    (Step(500, 60.0, 100), Step(5_000, 60.0, 100), Step(10_000)), default_metrics(),
    ready_within_s=300.0,
)  # fmt: skip


def _rollout(**changes: Any) -> Rollout:
    start = Rollout("r1", "m", "canary", 1, 2, PLAN, "r1", 0, "ada")
    return replace(start, **changes)


def _at(step: int, **changes: Any) -> Rollout:
    """A canary whose step is live since second 1000."""
    weight = PLAN.steps[step].weight_bp
    values = {
        "condition": "promoting" if weight == 10_000 else "progressing", "step": step,
        "weight_bp": weight, "generation": step + 1, "confirmed_us": 1_000 * SECOND,
    }  # fmt: skip
    return _rollout(**{**values, **changes})


def _verdict(
    judgement: Judgement, metric: MetricName = "errors", action: Action = "rollback"
) -> Verdict:
    good = 5.0 if judgement == "successful" else 1.0
    return Verdict(metric, judgement, action, metric == "errors", 0.0, 3.7, good, math.log(20),
                   (400, 1), (400, 1))  # fmt: skip


GOOD = (_verdict("successful"),)
BAD = (_verdict("failed"),)
UNSURE = (_verdict("inconclusive"),)


def _evidence(verdicts: tuple[Verdict, ...] = GOOD, requests: int = 1_000, **more: Any) -> Evidence:
    return Evidence(**{"readiness": "ready", "verdicts": verdicts, "step_requests": requests,
                       **more})  # fmt: skip


LATER = 2_000 * SECOND
ACTIONS: tuple[Action, ...] = ("pause", "observe")


@pytest.mark.parametrize(
    ("readiness", "now_s", "condition", "says"),
    [
        ("starting", 10, "preparing", "waiting until version 2 is ready"),
        ("unhealthy", 10, "preparing", "waiting until version 2 is ready"),
        ("ready", 10, "progressing", "step 1 of 3: 5 %"),
        ("ready", 999, "progressing", "step 1 of 3: 5 %"),
        ("failed", 10, "failed", "cannot serve: out of memory"),
        ("starting", 300, "preparing", "waiting"),
        ("starting", 301, "failed", "was not ready in 300 s"),
    ],
)
def test_a_version_takes_traffic_only_when_it_is_ready(
    readiness: str, now_s: int, condition: str, says: str
) -> None:
    """It waits, ends when the version cannot serve or takes too long, else sets the first step."""
    evidence = _evidence((), 0, readiness=readiness, readiness_reason="out of memory")
    after = advance(_rollout(), evidence, now_s * SECOND)
    assert after.condition == condition
    assert says in after.reason
    assert (after.ended_us is None) == (condition != "failed")
    assert after.weight_bp == (500 if condition == "progressing" else 0)


@pytest.mark.parametrize(
    ("evidence", "now_s", "step", "says"),
    [
        (_evidence(), 1_059, 0, "baking at 5 %, 1 s left"),
        (_evidence(), 1_060, 1, "step 2 of 3: 50 %"),
        (_evidence(requests=99), 1_060, 0, "needs 1 more canary requests"),
        (_evidence(requests=100), 1_060, 1, "step 2"),
        (_evidence(UNSURE), 1_060, 1, "step 2"),
        (_evidence(()), 1_060, 1, "step 2"),
        (_evidence(readiness="starting"), 1_060, 1, "step 2"),
    ],
)
def test_a_step_ends_after_its_bake_and_its_requests(
    evidence: Evidence, now_s: int, step: int, says: str
) -> None:
    """Both are needed; before 100 %, missing proof holds nothing back."""
    after = advance(_at(0), evidence, now_s * SECOND)
    assert (after.condition, after.step) == ("progressing", step)
    assert says in after.reason
    assert (after.confirmed_us is None) == (step == 1)


def test_the_bake_starts_when_the_edge_uses_the_weight() -> None:
    """Without a confirmation nothing moves, however long ago the step was set."""
    waiting = _at(0, confirmed_us=None)
    assert advance(waiting, _evidence(), LATER) == waiting


@pytest.mark.parametrize(
    ("verdicts", "condition", "says"),
    [
        (GOOD, "promoting", "step 3 of 3: 100 %"),
        (UNSURE, "progressing", "errors not proven, needs about"),
        ((), "progressing", "no evidence on errors yet"),
        ((_verdict("successful", "labels"),), "progressing", "no evidence on errors yet"),
        ((*GOOD, _verdict("inconclusive", "labels")), "promoting", "100 %"),
    ],
)
def test_all_traffic_needs_the_proof_of_required_metrics(
    verdicts: tuple[Verdict, ...], condition: str, says: str
) -> None:
    """No data is a hold, never a pass; a metric that is not required holds nothing back."""
    after = advance(_at(1), _evidence(verdicts), LATER)
    assert after.condition == condition
    assert says in after.reason


def test_a_rollout_is_healthy_when_the_edge_gives_it_everything() -> None:
    """Intended is not done: 100 % must be confirmed first."""
    intended = _at(2, confirmed_us=None)
    assert advance(intended, _evidence(), LATER) == intended
    done = advance(_at(2), _evidence(), LATER)
    assert (done.condition, done.phase, done.ended_us) == ("healthy", "healthy", LATER)


@pytest.mark.parametrize("condition", ["progressing", "paused", "promoting"])
@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        (_evidence(BAD), "worse than stable: errors: canary 1/400"),
        (_evidence((*GOOD, _verdict("failed", "labels"))), "worse than stable: labels"),
        (_evidence(readiness="unhealthy", readiness_reason="no answer"), "unhealthy: no answer"),
        (_evidence(readiness="failed", readiness_reason="crashed"), "failed: crashed"),
    ],
)
def test_a_bad_canary_gives_all_traffic_back(condition: str, evidence: Evidence, says: str) -> None:
    """In every condition in which it has traffic, paused by hand included, confirmed or not."""
    for confirmed_us in (None, 1_000 * SECOND):
        rollout = _at(1, condition=condition, confirmed_us=confirmed_us)
        after = advance(rollout, evidence, LATER)
        assert (after.condition, after.weight_bp, after.confirmed_us) == ("aborting", 0, None)
        assert says in after.reason


def test_an_abort_ends_when_the_edge_has_taken_the_traffic_away() -> None:
    """Degraded means: seen to be off; the reason is kept."""
    aborting = _at(1, condition="aborting", weight_bp=0, confirmed_us=None, reason="worse")
    assert advance(aborting, _evidence(), LATER) == aborting
    after = advance(replace(aborting, confirmed_us=LATER), _evidence(BAD), LATER)
    assert (after.condition, after.phase, after.reason) == ("degraded", "degraded", "worse")
    assert after.ended_us == LATER


@pytest.mark.parametrize("kind", ["first", "undo"])
def test_what_cannot_go_back_is_not_aborted_by_evidence(kind: Kind) -> None:
    """A first deployment has nothing to return to, and an undo nothing better."""
    rollout = _at(2, kind=kind)
    assert advance(rollout, _evidence(BAD, readiness="unhealthy"), LATER).condition == "healthy"


def test_doubt_in_a_pausing_metric_waits_for_a_person() -> None:
    """A metric with the action "pause" stops the rollout; one that observes does not."""
    pausing, observing = (_verdict("failed", "labels", action) for action in ACTIONS)
    assert advance(_at(0), _evidence((*GOOD, pausing)), LATER).condition == "paused"
    assert advance(_at(0), _evidence((*GOOD, observing)), LATER).condition == "progressing"


def test_a_paused_rollout_keeps_its_weight() -> None:
    """Good evidence and time do not move what a person stopped."""
    paused = act("pause", _at(0), LATER)
    assert (paused.phase, paused.weight_bp) == ("paused", 500)
    assert advance(paused, _evidence(), LATER) == paused
    assert advance(act("resume", paused, LATER), _evidence(), LATER).step == 1


@pytest.mark.parametrize("condition", ["healthy", "degraded", "failed"])
def test_what_has_ended_stays_as_it_is(condition: str) -> None:
    """No evidence reopens a rollout."""
    ended = _at(1, condition=condition, ended_us=5)
    assert advance(ended, _evidence(BAD), LATER) == ended
    assert not ended.is_open


@pytest.mark.parametrize("step", [0, 1])
def test_asking_twice_is_harmless(step: int) -> None:
    """The controller may crash after any decision and decide again."""
    once = advance(_at(step), _evidence(), LATER)
    assert advance(once, _evidence(), LATER) == once


def test_promoting_by_hand_skips_the_bake_but_not_the_protection() -> None:
    """One step on, or all the way; a bad canary is still taken back."""
    assert act("promote", _at(0), LATER).step == 1
    paused = act("pause", _at(0), LATER)
    assert act("promote", paused, LATER).condition == "progressing"
    full = act("promote_full", _at(0), LATER)
    assert (full.condition, full.weight_bp, full.confirmed_us) == ("promoting", 10_000, None)
    assert advance(full, _evidence(BAD), LATER).condition == "aborting"


def test_aborting_before_any_traffic_just_ends() -> None:
    """Nothing has to be taken away from the edge."""
    after = abort(_rollout(), "changed my mind", 7)
    assert (after.condition, after.ended_us, after.reason) == ("degraded", 7, "changed my mind")


def test_repeating_a_verb_changes_nothing() -> None:
    """A person who presses twice, or two who press at once, get one outcome."""
    paused, aborting = act("pause", _at(0), 7), act("abort", _at(0), 7)
    assert act("pause", paused, 8) == paused
    assert act("resume", _at(0), 8) == _at(0)
    assert act("abort", aborting, 8, "again") == aborting
    assert act("promote", _at(2), 8) == _at(2)


def test_the_only_version_cannot_be_aborted() -> None:
    """There would be nobody to answer."""
    with pytest.raises(Conflict, match="the only one"):
        abort(_at(2, kind="first", stable=None), "bad", 7)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan((), default_metrics()), "the last step is 100 %"),
        (Plan((Step(500),), default_metrics()), "the last step is 100 %"),
        (Plan((Step(500), Step(500), Step(10_000)), default_metrics()), "found 5, 5, 100"),
        (Plan((Step(5_000), Step(500), Step(10_000)), default_metrics()), "found 50, 5, 100"),
        (Plan((Step(0), Step(10_000)), default_metrics()), "from above 0"),
        (Plan((Step(500, -1.0), Step(10_000)), default_metrics()), "not negative"),
        (Plan((Step(500, 1.0, -1), Step(10_000)), default_metrics()), "not negative"),
        (Plan((Step(10_000),), (), interval_s=0.0), "the interval is above 0"),
        (Plan((Step(10_000),), (), interval_s=2_592_001.0), "interval_s: is at most 2592000"),
        (Plan((Step(500), Step(10_000)), (Metric("labels"),)), "at least one metric is required"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(plan: Plan, says: str) -> None:
    """The faults name the part of the plan."""
    with pytest.raises(InvalidInput) as refused:
        check_plan(plan)
    assert says in "; ".join(map(str, refused.value.faults))


def test_every_fault_of_a_plan_is_named_at_once() -> None:
    """One round is enough to mend it; a plan without faults passes, a one-step plan too."""
    with pytest.raises(InvalidInput) as refused:
        check_plan(Plan((Step(500, -1.0), Step(400)), (), interval_s=-1.0))
    assert len(refused.value.faults) == 5
    check_plan(PLAN)
    check_plan(Plan((Step(10_000),), ()))
