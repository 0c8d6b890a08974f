"""Every verb in every condition: what comes of it, cell by cell of the design's table."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from steelyard.domain.errors import Conflict
from steelyard.domain.rollout import Condition, Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.rollout_verbs import RULES, VERBS, Verb, act

SECOND = 1_000_000
ROOT = Path(__file__).parents[3]
PLAN = Plan((Step(500), Step(5_000, approval=True), Step(10_000)), default_metrics())
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
LAST: tuple[Condition, ...] = ("promoting", "probation", "healthy")
NOW = 900 * SECOND
SAME: dict[str, Any] = {}
REFUSED = None
GONE_ON: dict[str, Any] = {"cause": "", "since_us": None, "stopped_us": None}
TO_ALL = GONE_ON | {"condition": "promoting", "step": 2, "weight_bp": 10_000, "confirmed_us": None}
WAITS = {"condition": "awaiting_approval", "step": 0, "weight_bp": 500, "since_us": NOW}
BACK = GONE_ON | {"condition": "aborting", "weight_bp": 0, "confirmed_us": None}
ENDED = GONE_ON | {"condition": "healthy", "ended_us": NOW, "weight_bp": 10_000}
STOPPED = {"stopped_us": NOW, "since_us": 500 * SECOND}

# In the order of CONDITIONS; what is not named stays as it is.
TABLE: dict[Verb, tuple[dict[str, Any] | None, ...]] = {
    "promote": (
        REFUSED, WAITS, WAITS | {"cause": "", "waited_us": 400 * SECOND}, REFUSED, SAME, ENDED,
        SAME, REFUSED, REFUSED, REFUSED,
    ),
    "promote_full": (
        {"first_step": 2, "condition": "preparing", "weight_bp": 0}, TO_ALL, TO_ALL, TO_ALL, SAME,
        ENDED, SAME, REFUSED, REFUSED, REFUSED,
    ),
    "pause": (
        SAME, {"condition": "paused", "cause": "manual", "since_us": NOW, "weight_bp": 500}, SAME,
        STOPPED, SAME, STOPPED, REFUSED, REFUSED, REFUSED, REFUSED,
    ),
    "resume": (
        REFUSED, SAME,
        GONE_ON | {"condition": "progressing", "resumed_us": NOW, "waited_us": 400 * SECOND,
                   "step": 0, "weight_bp": 500, "confirmed_us": 400 * SECOND},
        SAME, SAME, SAME, REFUSED, REFUSED, REFUSED, REFUSED,
    ),
    "abort": (
        {"condition": "degraded", "ended_us": NOW}, BACK, BACK, BACK, BACK, BACK, REFUSED, SAME,
        SAME, SAME,
    ),
    "approve": (
        REFUSED, REFUSED, REFUSED,
        GONE_ON | {"condition": "progressing", "step": 1, "weight_bp": 5_000, "approved": 1,
                   "confirmed_us": None, "waited_us": 400 * SECOND},
        REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED,
    ),
    "reject": (REFUSED, REFUSED, REFUSED, BACK, *[REFUSED] * 6),
}  # fmt: skip
CELLS = [
    (verb, condition, outcome)
    for verb, outcomes in TABLE.items()
    for condition, outcome in zip(CONDITIONS, outcomes, strict=True)
]


def _in(condition: Condition) -> Rollout:
    """A canary in a condition, in which it is since second 500; its step is live since 400."""
    start = Rollout("r1", "m", "canary", 1, 2, PLAN, "r1", 0, "ada", condition)
    if condition in ("preparing", "failed"):
        return start
    step = 2 if condition in LAST else 0
    waits = condition in ("paused", "awaiting_approval", "probation")
    return replace(
        start, step=step, confirmed_us=400 * SECOND, reason="as it was",
        weight_bp=0 if condition in ("aborting", "degraded") else PLAN.steps[step].weight_bp,
        since_us=500 * SECOND if waits else None,
        cause="inconclusive" if condition == "paused" else "",
    )  # fmt: skip


@pytest.mark.parametrize(("verb", "condition", "outcome"), CELLS)
def test_each_verb_has_its_result_in_each_condition(
    verb: Verb, condition: Condition, outcome: dict[str, Any] | None
) -> None:
    """The rollout as it becomes, the same one, or a refusal that names it and what to do."""
    before = _in(condition)
    if outcome is None:
        with pytest.raises(Conflict, match=f"r1 is {condition.replace('_', ' ')}, so") as refused:
            act(verb, before, NOW)
        assert "steelyard roll" in refused.value.hint and refused.value.hint.endswith("m.")
        return
    after = act(verb, before, NOW)
    assert after == replace(before, **outcome, reason=after.reason)
    assert (after == before) == (outcome == {})


@pytest.mark.parametrize(("verb", "condition", "outcome"), CELLS)
def test_a_reason_is_kept_where_something_happens(
    verb: Verb, condition: Condition, outcome: dict[str, Any] | None
) -> None:
    """In the person's words; where nothing happens nothing is written either."""
    if outcome is None:
        return
    after = act(verb, _in(condition), NOW, "it is Friday")
    assert after.reason == ("it is Friday" if outcome else _in(condition).reason)


@pytest.mark.parametrize(("verb", "condition", "outcome"), CELLS)
def test_pressing_twice_is_pressing_once(
    verb: Verb, condition: Condition, outcome: dict[str, Any] | None
) -> None:
    """Two who press at once get one outcome, or the later one is told that it is done."""
    if outcome is None:
        return
    once = act(verb, _in(condition), NOW)
    waits = once.condition == "awaiting_approval" and verb == "promote"
    if waits or verb in ("approve", "reject"):
        with pytest.raises(Conflict):
            act(verb, once, NOW + 1)
    else:
        assert act(verb, once, NOW + 1) == once


def test_every_verb_and_condition_is_in_the_table() -> None:
    """A new one of either cannot be forgotten here."""
    assert set(TABLE) == set(VERBS) == set(RULES)
    assert len(CELLS) == len(VERBS) * len(CONDITIONS) == 70


@pytest.mark.parametrize("condition", ["awaiting_approval", "probation"])
def test_a_stopped_clock_runs_on_from_where_it_was(condition: Condition) -> None:
    """Time in which it stood counts neither for the wait nor for the deadline."""
    stopped = act("pause", _in(condition), NOW)
    assert stopped.reason.endswith("; stopped by hand")
    running = act("resume", stopped, NOW + 50 * SECOND)
    assert running == replace(_in(condition), since_us=550 * SECOND, waited_us=50 * SECOND)


def test_the_wait_for_an_approval_is_counted_once() -> None:
    """Approved while its clock stands or after it ran again: all of the wait, and no more."""
    stopped = act("pause", _in("awaiting_approval"), NOW)
    later = NOW + 100 * SECOND
    for waiting in (stopped, act("resume", stopped, NOW + 30 * SECOND)):
        approved = act("approve", waiting, later)
        assert (approved.waited_us, approved.stopped_us) == (500 * SECOND, None)


def test_promoting_the_last_step_before_all_traffic_skips_its_proof() -> None:
    """From the step before 100 % it goes to promoting, with no evidence at all."""
    rollout = replace(_in("progressing"), step=1, weight_bp=5_000)
    assert act("promote", rollout, NOW).condition == "promoting"


def test_the_only_version_cannot_be_taken_away() -> None:
    """A first deployment with traffic has nothing to go back to; before that it may end."""
    first = replace(_in("promoting"), kind="first", stable=None)
    with pytest.raises(Conflict, match="the only one"):
        act("abort", first, NOW)
    preparing = replace(_in("preparing"), kind="first", stable=None)
    assert act("abort", preparing, NOW).condition == "degraded"


def test_the_page_is_what_the_code_does() -> None:
    """docs/reference/rollout-verbs.md is made by trying every verb."""
    page = runpy.run_path(str(ROOT / "tools/rollout_verbs.py"))["page"]()
    text = (ROOT / "docs/reference/rollout-verbs.md").read_text(encoding="utf-8")
    assert text == page, "run: python tools/rollout_verbs.py"
