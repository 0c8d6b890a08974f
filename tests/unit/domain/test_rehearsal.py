"""What a plan is said to take before anything moves, against what imagined rollouts do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.domain.analysis import Metric
from steelyard.domain.e_process import Counts, ln_e_worse
from steelyard.domain.presets import PRESETS
from steelyard.domain.rehearsal import (
    Rehearsal,
    Traffic,
    chances,
    rehearse,
    requests_to_rollback,
    step_s,
)
from steelyard.domain.rollout_plan import Plan, Step, default_metrics

ERRORS = Metric("errors", margin=2.0, floor=0.01, required=True)
PLAN = Plan((Step(500, 600.0, 100), Step(5_000, 600.0, 100), Step(10_000)), (ERRORS,))


def test_without_traffic_nothing_is_estimated() -> None:
    """Unknown, and not 0 and not for ever."""
    assert rehearse(PLAN, Traffic(0.0, 0.0), 10) == Rehearsal(None, None, None, None, 3.0, None,
                                                             None)  # fmt: skip


def test_the_least_time_is_each_step_s_longer_one() -> None:
    """Its bake, or the time until its canary requests are there; readiness comes on top."""
    busy, quiet = Traffic(10.0, 0.005), Traffic(0.1, 0.005)
    assert rehearse(PLAN, busy, 10).promote_s == 10 + 600 + 600
    assert [step_s(step, 0.1) for step in PLAN.steps] == pytest.approx([20_000, 2_000, 0])
    assert rehearse(PLAN, quiet, 10).promote_s == pytest.approx(10 + 20_000 + 2_000)
    assert rehearse(PLAN, busy, 10).canary_requests == 600 * 10 * 0.05 + 600 * 10 * 0.5


def test_the_requests_to_a_rollback_are_the_design_s() -> None:
    """5 %, three times the errors, half a per cent: 15,000; the time follows from the traffic."""
    assert requests_to_rollback(0.05, 3.0, 0.005, 0.05) == pytest.approx(15_000, rel=0.001)
    found = rehearse(PLAN, Traffic(10.0, 0.005), 10)
    assert found.rollback_requests == requests_to_rollback(0.05, 3.0, 0.005, 0.05)
    assert found.rollback_s == pytest.approx(14_999 / 10 + PLAN.interval_s)
    two = replace(PLAN, metrics=default_metrics())
    more = rehearse(two, Traffic(10.0, 0.005), 10).rollback_requests
    assert more == requests_to_rollback(0.05, 3.0, 0.005, 0.025)


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
    clean = rehearse(PLAN, Traffic(10.0, 0.0), 10)
    assert (clean.rollback_requests, clean.rollback_s) == (None, None)
    assert clean.promote_s is not None and clean.if_equal is not None
    assert clean.if_equal.promote == 1.0
    blind = rehearse(replace(PLAN, metrics=(Metric("labels"),)), Traffic(10.0, 0.01), 10)
    assert (blind.rollback_requests, blind.if_equal, blind.if_worse) == (None, None, None)


def test_the_chances_are_those_of_the_rule() -> None:
    """Equal versions are rarely rolled back, worse ones with enough traffic nearly always."""
    traffic = Traffic(20.0, 0.005)
    found = rehearse(PLAN, traffic, 10, worse=5.0)
    assert found.if_equal is not None and found.if_worse is not None
    assert found.if_equal.rollback <= 0.05 and found.if_worse.rollback > 0.9
    assert found.if_worse.promote < 0.01
    assert rehearse(PLAN, traffic, 10, worse=5.0) == found


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
    found = rehearse(plan, Traffic(requests_per_s, error_share), 10, worse)
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
