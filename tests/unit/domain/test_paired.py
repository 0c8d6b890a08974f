"""Graded pairs: of two answers to one request only the canary's, or only stable's, was wrong."""

import math

import pytest

from steelyard.domain.analysis import Metric, Observed, judge
from steelyard.domain.e_process import Interval

PAIRED = Metric("paired")


def _rows(*pairs: tuple[int, int, int]) -> Observed:
    """Intervals of (pairs, only the canary wrong, only stable wrong)."""
    return Observed([Interval(n, canary, n, stable) for n, canary, stable in pairs])


@pytest.mark.parametrize(
    ("canary", "stable", "tolerance", "ln_e"),
    [(3, 1, 1.0, 0.102469), (12, 3, 1.0, 2.023965), (30, 10, 1.0, 3.784060),
     (10, 10, 1.0, -1.963453), (0, 5, 1.0, -2.473309), (12, 3, 1.5, 0.470870),
     (30, 10, 1.5, 0.523409)],
)  # fmt: skip
def test_the_evidence_is_that_of_a_fair_coin(
    canary: int, stable: int, tolerance: float, ln_e: float
) -> None:
    """Worked out apart, to 40 digits: mean over rho of (theta/theta0)^c ((1-theta)/(1-theta0))^b.

    theta = rho t/(1 + rho t), theta0 = t/(1 + t), rho from 1.05 to 50 in 60 even steps of its
    logarithm. How many pairs agreed has no say.
    """
    metric = Metric("paired", tolerance=tolerance)
    for pairs in (100, 10_000):
        verdict = judge(metric, _rows((pairs, canary, stable)), 1)
        assert verdict.ln_e_worse == pytest.approx(ln_e, abs=1e-6)


def test_a_canary_that_alone_is_wrong_is_worse() -> None:
    """Intervals add up; equal mistakes and no label at all are no verdict."""
    rows = [(40, 4, 1)] * 8
    assert judge(PAIRED, _rows(*rows[:4]), 2).judgement == "inconclusive"
    verdict = judge(PAIRED, _rows(*rows), 2)
    assert (verdict.judgement, verdict.action) == ("failed", "rollback")
    assert verdict.ln_worse_at == pytest.approx(math.log(40))
    assert verdict.summary == (
        "paired: in 320 pairs only the canary was wrong 32 times, only stable 8 times: failed"
    )
    assert judge(PAIRED, _rows((40, 9, 9)), 1).judgement == "inconclusive"
    assert judge(PAIRED, Observed(), 1).ln_e_worse == 0


def test_what_pairs_say_is_said_with_its_rate_and_limit() -> None:
    """The line of a limit names it; without a pair there is no rate."""
    metric = Metric("disagreement", limit=0.02)
    found = judge(metric, Observed([Interval(200, 9, 0, 0)]), 1)
    assert found.summary == "disagreement: 9 of 200 pairs differ (4.5 %), limit 2 %: inconclusive"
    nothing = judge(metric, Observed(), 1)
    assert nothing.counted == "0 of 0 pairs differ, limit 2 %"
    assert judge(Metric("errors", limit=0.1), Observed([Interval(9, 1, 90, 0)]), 1).counted == (
        "canary 1/9, stable 0/90"
    )
