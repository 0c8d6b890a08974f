"""A decision can be made again from what its event kept, and a changed one does not hold."""

import json
import math
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.advance import advance
from steelyard.domain.analysis import Action, Judgement, MetricName, Verdict
from steelyard.domain.decision import decided_again, retold, said, told
from steelyard.domain.rollout import Cause, Condition, Evidence, Recent, Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics

SECOND = 1_000_000
PLAN = Plan(
    (Step(500, 60.0, 10), Step(5_000, 60.0, approval=True), Step(10_000)), default_metrics(),
    probation_s=60.0, inconclusive_limit=3,
)  # fmt: skip
times = st.none() | st.integers(0, 10_000 * SECOND)
figures = st.floats(-1e6, 1e6)
pairs = st.tuples(st.integers(0, 500), st.integers(0, 500))
verdicts = st.builds(
    Verdict, st.sampled_from(get_args(MetricName)), st.sampled_from(get_args(Judgement)),
    st.sampled_from(get_args(Action)), st.booleans(), figures, figures, figures, figures, pairs,
    pairs, st.none() | st.floats(0, 50) | st.just(math.inf),
)  # fmt: skip
evidences = st.builds(
    Evidence, st.sampled_from(["starting", "ready", "unhealthy", "failed"]), st.text(max_size=5),
    st.lists(verdicts, max_size=3).map(tuple), st.integers(0, 500), st.integers(0, 500),
    st.builds(Recent, st.integers(0, 30), st.integers(0, 30), pairs, pairs),
)  # fmt: skip
rollouts = st.builds(
    Rollout, st.just("r1"), st.just("m"), st.just("canary"), st.just(1), st.just(2), st.just(PLAN),
    st.just("r1"), st.integers(0, 100 * SECOND), st.just("ada"),
    condition=st.sampled_from(get_args(Condition)), step=st.integers(0, 1),
    weight_bp=st.sampled_from([500, 5_000]), generation=st.integers(1, 9), confirmed_us=times,
    reason=st.text(max_size=9), cause=st.sampled_from(get_args(Cause)),
    since_us=st.integers(0, 10_000 * SECOND), stopped_us=times,
    waited_us=st.integers(0, 100 * SECOND), resumed_us=times, approved=st.integers(-1, 2),
    first_step=st.integers(0, 2),
)  # fmt: skip


@given(rollouts, evidences, st.integers(0, 20_000 * SECOND))
def test_what_was_told_is_decided_in_the_same_way(
    rollout: Rollout, evidence: Evidence, now_us: int
) -> None:
    """To the last digit of the evidence, whatever it was."""
    text = told(rollout, evidence)
    assert retold(text, PLAN) == (rollout, evidence)
    assert decided_again(text, PLAN, now_us) == advance(rollout, evidence, now_us)


BAD = Verdict("errors", "failed", "rollback", True, 5.0, 3.7, -2.0, 3.0, (100, 30), (900, 5))
ROLLOUT = Rollout("r1", "m", "canary", 1, 2, PLAN, "r1", 0, "ada", "progressing", 0, 500, 1, 5)


def test_other_evidence_leads_to_another_decision() -> None:
    """So a changed event is found out, even if its chain were made anew."""
    text = told(ROLLOUT, Evidence("ready", verdicts=(BAD,), step_requests=100, requests=100))
    decided = decided_again(text, PLAN, 900 * SECOND)
    assert decided is not None and decided.condition == "aborting"
    forged = json.loads(text)
    forged["evidence"]["verdicts"][0]["judgement"] = "inconclusive"
    again = decided_again(json.dumps(forged), PLAN, 900 * SECOND)
    assert again is not None and again.condition != decided.condition
    other = decided_again(text.replace('"step": 0', '"step": 1'), PLAN, 900 * SECOND)
    assert other is not None and other.step != decided.step


@pytest.mark.parametrize("text", ["", "gates overridden: the fair is tomorrow", "errors: 3/10"])
def test_a_person_s_verb_was_not_decided_here(text: str) -> None:
    """Nor was what is from before evidence was kept: it is shown as it was written."""
    assert retold(text, PLAN) is None
    assert decided_again(text, PLAN, 5) is None
    assert said(text) == text


def test_evidence_is_said_in_one_line() -> None:
    """A sentence a metric; nothing when there was none."""
    labels = replace(BAD, metric="labels", judgement="inconclusive")
    assert said(told(ROLLOUT, Evidence("ready", verdicts=(BAD, labels)))) == (
        "errors: canary 30/100, stable 5/900: failed; "
        "labels: canary 30/100, stable 5/900: inconclusive"
    )
    assert said(told(ROLLOUT, Evidence("starting"))) == ""
