"""What a plan is said to take before anything moves, against what imagined rollouts do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.domain.analysis import Metric, ln_e_good_so_far
from steelyard.domain.e_process import Counts, ln_e_worse
from steelyard.domain.presets import PRESETS
from steelyard.domain.rehearsal import (
    Reaction,
    Rehearsal,
    Traffic,
    chances,
    phases_of,
    rehearse,
)
from steelyard.domain.rollout_plan import Candidate, Plan, Step, default_metrics
from steelyard.domain.verdict_requests import (
    requests_to_floor,
    requests_to_promotion,
    requests_to_rollback,
)

ERRORS = Metric("errors", margin=2.0, floor=0.01, required=True)
PLAN = Plan((Step(500, 600.0, 100), Step(5_000, 600.0, 100), Step(10_000)), (ERRORS,))
REACTION = Reaction(settle_s=22.0, tick_s=1.0, acknowledge_s=3.0)


def _rehearsed(plan: Plan, traffic: Traffic, worse: float = 3.0) -> Rehearsal:
    return rehearse(plan, traffic, 10, REACTION, worse)


def test_without_traffic_nothing_is_estimated() -> None:
    """Unknown, and not 0 and not for ever."""
    found = _rehearsed(PLAN, Traffic(0.0, 0.0))
    assert found == Rehearsal(None, None, None, None, 86.0, None, None, 3.0, None, None)


def test_the_least_time_is_each_step_s_longer_one() -> None:
    """Its bake, or the time until its canary requests are there; readiness comes on top."""
    busy, quiet = Traffic(10.0, 0.005), Traffic(0.1, 0.005)
    assert _rehearsed(PLAN, busy).promote_s == 10 + 600 + 600
    assert [one.seconds for one in phases_of(PLAN, 0.1)] == pytest.approx([20_000, 2_000])
    assert _rehearsed(PLAN, quiet).promote_s == pytest.approx(10 + 20_000 + 2_000)
    assert _rehearsed(PLAN, busy).canary_requests == 600 * 10 * 0.05 + 600 * 10 * 0.5


def test_a_shadow_step_waits_for_its_copies() -> None:
    """A version that answers nobody repeats a share of stable's requests; those are told apart."""
    plan = replace(PLAN, steps=(Step(0, 60.0, 500, shadow_bp=1_000), *PLAN.steps[1:]),
                   probation_s=100.0, reverse_shadow_bp=500)  # fmt: skip
    found = _rehearsed(plan, Traffic(10.0, 0.005))
    assert found.promote_s == 10 + 500 + 600
    assert found.canary_requests == 600 * 10 * 0.5
    assert found.copies == 500 + 100 * 10 * 0.05
    assert found.rollback_requests == requests_to_rollback(0.5, 3.0, 0.005, 0.05)


def test_the_candidate_with_the_least_traffic_takes_longest() -> None:
    """Steps are shares of a candidate's own region."""
    plan = replace(PLAN, candidates=(Candidate(2, 5_000), Candidate(3, 2_000)))
    first, second = phases_of(plan, 10.0)
    assert (first.share, first.canary, second.share) == pytest.approx((0.01, 0.1, 0.1))
    assert first.seconds == pytest.approx(1_000)


def test_the_requests_to_a_rollback_are_the_design_s() -> None:
    """5 %, three times the errors, half a per cent: 15,000; the time follows from the traffic."""
    assert requests_to_rollback(0.05, 3.0, 0.005, 0.05) == pytest.approx(15_000, rel=0.001)
    found = _rehearsed(PLAN, Traffic(10.0, 0.005))
    assert found.rollback_requests == requests_to_rollback(0.05, 3.0, 0.005, 0.05)
    assert found.rollback_s == pytest.approx(14_999 / 10 + PLAN.interval_s + 22 + 1 + 3)
    assert found.guard_s == PLAN.interval_s + 22 + 1 + 3
    two = replace(PLAN, metrics=default_metrics())
    more = _rehearsed(two, Traffic(10.0, 0.005)).rollback_requests
    assert more == requests_to_rollback(0.05, 3.0, 0.005, 0.025)


def test_the_requests_to_a_proof_are_the_design_s() -> None:
    """Half a per cent, twice the errors excluded: 63,600 at 5 %, 15,300 at 50 %; 423 by a floor."""
    found = [requests_to_promotion(share, 2.0, 0.005, 0.05) for share in (0.05, 0.5)]
    assert found == pytest.approx([63_600, 15_300], rel=0.003)
    assert requests_to_floor(0.01, 0.0, 0.05) == pytest.approx(423, rel=0.003)


@pytest.mark.parametrize("error_share", [0.0, 0.001, 0.02])
def test_the_expected_time_is_when_most_equal_versions_are_proven(error_share: float) -> None:
    """By the floor where stable stays within it, else by the ratio; somewhat on the safe side."""
    plan, rate = replace(PLAN, steps=(Step(5_000, 10.0), Step(10_000))), 20.0
    found = _rehearsed(plan, Traffic(rate, error_share))
    assert found.promote_s == 20 and found.expected_s is not None
    looks, random = 400, np.random.default_rng(3)
    each = (found.expected_s - 10) * rate / 2 / looks
    n = np.full(looks, each)
    events = [random.binomial(round(each * looks), error_share, 500) for _ in range(2)]
    x = [random.multinomial(total, n / n.sum()).astype(float) for total in events[0]]
    y = [random.multinomial(total, n / n.sum()).astype(float) for total in events[1]]
    ends = ln_e_good_so_far(ERRORS, Counts(n, np.array(x), n, np.array(y)))
    assert (ends.max(-1) >= np.log(20)).mean() > 0.5


def test_what_nothing_can_prove_is_never_expected() -> None:
    """Without a floor and without an error of stable's there is nothing to compare."""
    bare = replace(PLAN, metrics=(replace(ERRORS, floor=None),))
    assert _rehearsed(bare, Traffic(10.0, 0.0)).expected_s is None
    assert _rehearsed(bare, Traffic(10.0, 0.01)).expected_s is not None
    unasked = replace(PLAN, metrics=(replace(ERRORS, required=False),))
    found = _rehearsed(unasked, Traffic(10.0, 0.0))
    assert found.expected_s == found.promote_s


def test_the_estimate_is_somewhat_above_what_rollouts_take() -> None:
    """22 to 51 % above the median of simulated ones (ROLLOUT, rehearsal)."""
    random, runs, looks, each = np.random.default_rng(5), 2_000, 200, 300
    canary, stable = np.full(looks, 15.0), np.full(looks, 285.0)
    counts = Counts(
        canary, random.binomial(15, 0.015, (runs, looks)).astype(float),
        stable, random.binomial(285, 0.005, (runs, looks)).astype(float),
    )  # fmt: skip
    fired = np.full(runs, looks + 1)
    for look in range(looks, 0, -1):
        fired[ln_e_worse(counts.until(look)) >= np.log(20)] = look
    median = float(np.median(fired)) * each
    assert 1.15 < requests_to_rollback(0.05, 3.0, 0.005, 0.05) / median < 1.55


def test_without_an_error_of_stable_s_a_worse_canary_is_not_foretold() -> None:
    """Three times nothing is nothing; the same when no errors are compared at all."""
    clean = _rehearsed(PLAN, Traffic(10.0, 0.0))
    assert (clean.rollback_requests, clean.rollback_s) == (None, None)
    assert clean.promote_s is not None and clean.if_equal is not None
    assert clean.if_equal.promote == 1.0
    blind = _rehearsed(replace(PLAN, metrics=(Metric("labels"),)), Traffic(10.0, 0.01))
    assert (blind.rollback_requests, blind.if_equal, blind.if_worse) == (None, None, None)


def test_the_chances_are_those_of_the_rule() -> None:
    """Equal versions are rarely rolled back, worse ones with enough traffic nearly always."""
    traffic = Traffic(20.0, 0.005)
    found = _rehearsed(PLAN, traffic, 5.0)
    assert found.if_equal is not None and found.if_worse is not None
    assert found.if_equal.rollback <= 0.05 and found.if_worse.rollback > 0.9
    assert found.if_worse.promote < 0.01
    assert _rehearsed(PLAN, traffic, 5.0) == found


@settings(max_examples=4, deadline=None)
@given(
    st.sampled_from(list(PRESETS)), st.floats(0.001, 200),
    st.just(0.0) | st.floats(1e-6, 1), st.floats(1.05, 50),
)  # fmt: skip
def test_any_traffic_has_an_answer(
    preset: str, requests_per_s: float, error_share: float, worse: float
) -> None:
    """Chances are shares of all rollouts, times and requests are not negative."""
    plan = PRESETS[preset]  # type: ignore[index]
    found = _rehearsed(plan, Traffic(requests_per_s, error_share), worse)
    assert found.promote_s is not None and found.promote_s >= 10
    assert (found.if_worse is None) == (error_share == 0)
    for one in (found.if_equal, found.if_worse or found.if_equal):
        assert one is not None
        assert min(one.rollback, one.promote, one.hold) >= -1e-9
        assert one.rollback + one.promote + one.hold == pytest.approx(1)
    if found.rollback_requests is not None:
        assert found.rollback_requests > 0 and found.rollback_s is not None


def test_a_plan_of_one_step_has_nothing_to_compare() -> None:
    """All at once is held by nothing and found out by nothing."""
    plan = Plan((Step(10_000),), (ERRORS,))
    found = chances(plan, ERRORS, Traffic(10.0, 0.01), 1.0, 0)
    assert (found.rollback, found.promote, found.hold) == (0.0, 0.0, 1.0)
