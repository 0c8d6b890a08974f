"""How sure a ratio of event rates is when the requests of one unit are alike."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from steelyard.domain.analysis import Metric, Observed, judge
from steelyard.domain.e_process import Interval
from steelyard.domain.unit_spread import NO_END, Spread, upper_ratio

Units = list[tuple[int, int]]
units = st.lists(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=12
)


def _spread(of: Units) -> Spread:
    """The sums of (requests, events) of each unit."""
    return Spread(*(sum(column) for column in zip(*(
        (n, x, x * x, x * n, n * n) for n, x in of
    ), strict=True))) if of else Spread()  # fmt: skip


@given(units, units)
def test_the_upper_end_is_the_design_s_formula(canary: Units, stable: Units) -> None:
    """U = exp(ln(R_c/R_b) + 1.645·√v), v from each unit's distance to its arm's rate."""
    assume(sum(x for _, x in canary) and sum(x for _, x in stable))
    rates = [sum(x for _, x in arm) / sum(n for n, _ in arm) for arm in (canary, stable)]
    variance = sum(
        sum((x - rate * n) ** 2 for n, x in arm) / sum(x for _, x in arm) ** 2
        for arm, rate in zip((canary, stable), rates, strict=True)
    )
    expected = math.exp(math.log(rates[0] / rates[1]) + 1.645 * math.sqrt(variance))
    assert upper_ratio(_spread(canary), _spread(stable)) == pytest.approx(expected, rel=1e-6)


@given(units, units)
def test_it_is_never_below_the_ratio_itself(canary: Units, stable: Units) -> None:
    """Whatever was seen it is a number, 0 without events in the canary."""
    found = upper_ratio(_spread(canary), _spread(stable))
    x_canary, x_stable = sum(x for _, x in canary), sum(x for _, x in stable)
    if not x_canary:
        assert found == 0.0
    elif not x_stable:
        assert found == NO_END
    else:
        rates = x_canary / sum(n for n, _ in canary), x_stable / sum(n for n, _ in stable)
        assert found >= rates[0] / rates[1] * (1 - 1e-9)


def test_who_asks_often_makes_it_less_sure_not_more() -> None:
    """The same requests and events of fewer, busier units leave a wider end."""
    many = [(1, 0)] * 990 + [(1, 1)] * 10
    few = [(100, 0)] * 9 + [(100, 10)]
    even = _spread(many)
    assert upper_ratio(even, even) < upper_ratio(_spread(few), even)


def test_its_one_sided_error_is_about_one_in_twenty() -> None:
    """Of experiments with 400 units an arm and a true ratio of 1, few end below 1."""
    random = np.random.default_rng(11)
    below = 0
    for _ in range(1_000):
        arms = []
        for _ in range(2):
            n = random.integers(5, 60, 400)
            x = random.binomial(n, np.where(random.random(400) < 0.1, 0.4, 0.01))
            arms.append(Spread(*map(int, (n.sum(), x.sum(), x @ x, x @ n, n @ n))))
        below += upper_ratio(*arms) < 1
    assert 30 <= below <= 75


def test_units_that_fail_more_each_hold_a_promotion_back() -> None:
    """As many units are hit in both arms, but in the canary three times as often."""
    metric = Metric("errors", margin=2.0, required=True)
    rows = [Interval(5_000, 150, 5_000, 150)]
    stable = _spread([(10, 1)] * 150 + [(10, 0)] * 4_850)
    canary = _spread([(10, 3)] * 150 + [(10, 0)] * 4_850)
    alike = judge(metric, Observed(rows, (stable, stable)), 1)
    assert (alike.judgement, alike.upper_ratio) == ("successful", upper_ratio(stable, stable))
    verdict = judge(metric, Observed(rows, (canary, stable)), 1)
    assert verdict.judgement == "inconclusive"
    assert verdict.upper_ratio is not None and verdict.upper_ratio > 3


def test_the_floor_alone_may_overrule_the_ratio() -> None:
    """Only when it is certain without the comparison, which was half of the evidence."""
    metric = Metric("errors", margin=2.0, floor=0.01, required=True)
    canary, stable = _spread([(1, 1)] + [(1, 0)] * 499), _spread([(1, 0)] * 500)

    def found(n: int) -> str:
        rows = [Interval(n, 1, n, 0)]
        return judge(metric, Observed(rows, (canary, stable)), 1).judgement

    assert upper_ratio(canary, stable) == NO_END
    first = next(n for n in range(400, 2_000, 10) if found(n) == "successful")
    assert 600 <= first <= 900
    assert found(first - 100) == "inconclusive"
