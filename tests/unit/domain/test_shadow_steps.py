"""Steps in which a candidate only repeats requests, and who repeats whose."""

import math
from dataclasses import replace
from typing import Any

import pytest

from steelyard.domain.advance import advance
from steelyard.domain.analysis import Judgement, Metric, Verdict
from steelyard.domain.errors import InvalidInput
from steelyard.domain.operation import ShadowSetting, shadows_of
from steelyard.domain.rollout import Condition, Evidence, Recent, Rollout
from steelyard.domain.rollout_plan import Plan, Step, check_plan, default_metrics
from steelyard.domain.rollout_verbs import act
from steelyard.domain.serving_snapshot import Shadow

SECOND = 1_000_000
DIFFER = Metric("disagreement", limit=0.02, required=True)
PLAN = Plan(
    (Step(0, 60.0, 100, shadow_bp=2_000), Step(500, 60.0, 100, shadow_bp=1_000),
     Step(5_000, 60.0), Step(10_000)),
    (*default_metrics(), DIFFER), label_maturity_s=10.0, probation_s=300.0, reverse_shadow_bp=400,
)  # fmt: skip
LIVE_US = 1_000 * SECOND


def _at(step: int, condition: Condition = "progressing", **changes: Any) -> Rollout:
    """A canary whose step is live since second 1000."""
    start = Rollout("r1", "m", "canary", 1, 2, PLAN, "r1", 0, "ada", condition, step)
    weight_bp = PLAN.steps[step].weight_bp if step >= 0 else 0
    confirmed_us = LIVE_US if step >= 0 else None
    return replace(
        start, **{"weight_bp": weight_bp, "generation": 1, "confirmed_us": confirmed_us, **changes}
    )


def _evidence(copies: int = 100, judgement: Judgement = "successful", **known: Any) -> Evidence:
    verdict = Verdict("disagreement", judgement, "rollback", True, 0.0, 4.1, 0.0, math.log(20),
                      (copies, 1), (0, 0), limit=0.02)  # fmt: skip
    return Evidence(
        **{"readiness": "ready", "verdicts": (verdict,), "step_requests": copies,
           "requests": copies, **known}
    )  # fmt: skip


def _later(seconds: int) -> int:
    return LIVE_US + seconds * SECOND


def test_the_first_step_may_be_a_shadow_only() -> None:
    """It begins without a weight, bakes, and wants its copies answered before anyone meets it."""
    first = advance(_at(-1, "preparing"), _evidence(), LIVE_US)
    assert (first.condition, first.step, first.weight_bp) == ("progressing", 0, 0)
    assert first.reason == "step 1 of 4: 0 %, shadow 20 %"
    baking = advance(_at(0), _evidence(), _later(59))
    assert baking.reason == "baking at 0 %, shadow 20 %, 1 s left"
    held = advance(_at(0), _evidence(99), _later(60))
    assert held.reason == "hold: needs 1 more answers in the shadow"
    onward = advance(_at(0), _evidence(), _later(60))
    assert (onward.step, onward.weight_bp) == (1, 500)


def test_no_client_meets_it_before_a_required_limit_is_proven() -> None:
    """Without a verdict it waits in the shadow; errors are proven later, when there are clients."""
    held = advance(_at(0), _evidence(judgement="inconclusive"), _later(60))
    assert held.step == 0
    assert held.reason == "hold: disagreement not proven, needs about 165 more pairs"
    held = advance(_at(0), _evidence(verdicts=()), _later(60))
    assert held.reason == "hold: no evidence on disagreement yet"
    optional = replace(PLAN, metrics=(*default_metrics(), replace(DIFFER, required=False)))
    later = advance(_at(0, plan=optional), _evidence(verdicts=()), _later(60))
    assert later.weight_bp == 500


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (_evidence(judgement="failed"),
         "worse than stable: disagreement: 1 of 100 pairs differ (1 %), limit 2 %: failed"),
        (_evidence(recent=Recent(10, 3, (10, 10), (90, 0))), "guard: the canary's last 10"),
        (_evidence(readiness="unhealthy", readiness_reason="it died"), "is unhealthy: it died"),
    ],
)  # fmt: skip
def test_a_bad_one_ends_in_the_shadow(evidence: Evidence, why: str) -> None:
    """It has no traffic to give back, so it is over at once, whatever else goes on."""
    for condition in ("progressing", "paused"):
        after = advance(_at(0, condition, since_us=LIVE_US), evidence, _later(1))
        assert (after.condition, after.weight_bp, after.ended_us) == ("degraded", 0, _later(1))
        assert why in after.reason and after.since_us is None


def test_a_person_may_end_or_skip_the_shadow() -> None:
    """Abort is the end at once; promote goes on to the first weight without its copies."""
    ended = act("abort", _at(0), _later(1), "enough")
    assert (ended.condition, ended.ended_us, ended.reason) == ("degraded", _later(1), "enough")
    assert act("promote", _at(0), _later(1)).weight_bp == 500
    assert act("promote_full", _at(0), _later(1)).weight_bp == 10_000
    assert act("pause", _at(0), _later(1)).condition == "paused"


def test_nobody_s_copies_are_no_data() -> None:
    """At the deadline a person is asked if nothing was repeated; else it took too long."""
    late = _later(8 * 86_400)
    found = advance(_at(0), _evidence(0), late)
    assert (found.condition, found.cause) == ("paused", "no_data")
    assert advance(_at(0), _evidence(99), late).condition == "degraded"


def test_a_rollout_says_who_repeats_whose_requests() -> None:
    """The candidate in a step with a shadow, the old version on probation, nobody otherwise."""
    cases: list[tuple[Rollout, tuple[Shadow, ...]]] = [
        (_at(-1, "preparing"), ()),
        (_at(0), (Shadow(2, 2_000),)),
        (_at(0, "paused"), (Shadow(2, 2_000),)),
        (_at(1), (Shadow(2, 1_000),)),
        (_at(1, "awaiting_approval"), (Shadow(2, 1_000),)),
        (_at(2), ()),
        (_at(1, "aborting", weight_bp=0), ()),
        (_at(3, "promoting"), ()),
        (_at(3, "probation"), (Shadow(1, 400, "canary"),)),
        (_at(3, "healthy"), ()),
        (_at(0, "degraded"), ()),
        (_at(3, "probation", plan=replace(PLAN, reverse_shadow_bp=0)), ()),
        (_at(3, "promoting", kind="first", stable=None), ()),
    ]
    for rollout, expected in cases:
        assert shadows_of(None, [rollout]) == expected, rollout
    both = [_at(0), _at(0, rollout_id="r2", candidate=3)]
    assert shadows_of(None, both) == (Shadow(2, 2_000), Shadow(3, 2_000))


def test_an_operator_s_shadow_comes_first() -> None:
    """Whom the operator named gets the copies, and nobody else; ended, the plan's word counts."""
    setting = ShadowSetting("m", 5, 3_000, "ada", "", 1)
    assert shadows_of(setting, [_at(0)]) == (Shadow(5, 3_000),)
    ended = replace(setting, version=None, share_bp=0)
    assert shadows_of(ended, [_at(0)]) == (Shadow(2, 2_000),)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"steps": (Step(0), *PLAN.steps[1:])}, "only a first step with a shadow may have 0"),
        ({"steps": (Step(500), Step(0, shadow_bp=1), Step(10_000))}, "found 5, 0, 100"),
        ({"steps": (Step(500, shadow_bp=10_001), Step(10_000))}, "steps[0].shadow"),
        ({"steps": (Step(500), Step(10_000, shadow_bp=1))}, "steps[1].shadow"),
        ({"steps": (Step(0, shadow_bp=1),)}, "the last step is 100 %"),
        ({"reverse_shadow_bp": -1}, "reverse_shadow: is from 0 to 100 percent, found -0.01"),
        ({"probation_s": 0.0}, "reverse_shadow: is a part of the probation"),
        ({"metrics": (*PLAN.metrics, Metric("paired")), "probation_s": 10.0},
         "labels are 10 s old"),
        ({"metrics": (*PLAN.metrics, Metric("paired", required=True))}, "metrics.paired"),
    ],
)  # fmt: skip
def test_a_shadow_that_nobody_could_cast_is_refused(changes: dict[str, Any], fault: str) -> None:
    """With its place and what was found."""
    check_plan(PLAN)
    with pytest.raises(InvalidInput) as refused:
        check_plan(replace(PLAN, **changes))
    assert any(fault in str(one) for one in refused.value.faults), refused.value.faults
