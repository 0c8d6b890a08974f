from datetime import date, timedelta
from fractions import Fraction

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.unit_economics import (
    SEED,
    CoefficientRange,
    DayTotal,
    Estimate,
    at_coefficients,
    block_samples,
    saving_per_request,
    unit_cost,
)

TODAY = date(2024, 3, 1)
WEEK = [100, 110, 120, 130, 140, 60, 40]


def days(
    count: int, requests: list[int] | None = None, price: int = 3, fixed: int = 0
) -> list[DayTotal]:
    """So many days up to yesterday, each costing a price a request and a fixed amount."""
    pattern = requests or WEEK
    found = []
    for i in range(count):
        asked = pattern[i % len(pattern)]
        day = TODAY - timedelta(days=count - i)
        found.append(DayTotal(day, asked * price + fixed, asked))
    return found


def test_the_unit_cost_is_all_cost_over_all_requests() -> None:
    """A mean of daily means would let a quiet Sunday count as much as a Monday."""
    found = unit_cost(days(28, fixed=100), TODAY)
    assert found.value == Fraction(4 * (700 * 3 + 700), 4 * 700)
    assert found.days == 28


def test_a_constant_price_has_an_interval_of_one_point() -> None:
    """When every request costs the same, no sample of days can disagree."""
    assert unit_cost(days(28), TODAY) == Estimate(Fraction(3), Fraction(3), Fraction(3), 28)


def test_a_varying_price_has_an_interval_around_the_figure() -> None:
    """Weeks that differ make a band; the same seed makes the same band."""
    varied = [DayTotal(d.day, (d.amount or 0) * (2 + i // 7), d.requests)
              for i, d in enumerate(days(28))]  # fmt: skip
    found = unit_cost(varied, TODAY)
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    assert 6 <= found.low < found.value < found.high <= 15
    assert unit_cost(varied, TODAY) == found
    assert unit_cost(varied, TODAY, seed=SEED + 1).seed == SEED + 1


def test_only_the_last_28_complete_days_count() -> None:
    """Older days and today, which is not over, are left out."""
    extra = [DayTotal(TODAY, 10**9, 1), DayTotal(TODAY - timedelta(days=29), 10**9, 1)]
    assert unit_cost([*days(28), *extra], TODAY) == unit_cost(days(28), TODAY)


def test_under_fourteen_days_there_is_no_interval() -> None:
    """Thirteen days give a figure alone; fourteen give an interval."""
    assert unit_cost(days(13), TODAY) == Estimate(Fraction(3), None, None, 13)
    assert unit_cost(days(14), TODAY).low == 3


def test_a_day_with_an_unknown_amount_is_left_out_with_its_requests() -> None:
    """Unknown is not free: its requests would make the others look cheaper."""
    known = days(20)
    unknown = DayTotal(TODAY - timedelta(days=25), None, 10**6)
    assert unit_cost([unknown, *known], TODAY) == unit_cost(known, TODAY)


def test_without_requests_the_unit_cost_is_unknown() -> None:
    """Cost without a request is no cost per request."""
    assert unit_cost(days(28, [0]), TODAY).value is None
    assert unit_cost([], TODAY).value is None


def test_with_too_few_days_of_traffic_the_interval_is_unknown() -> None:
    """One busy day in four weeks: many samples have no request at all."""
    found = unit_cost(days(28, [0] * 27 + [50], fixed=10), TODAY)
    assert found.value == Fraction(50 * 3 + 280, 50)
    assert (found.low, found.high) == (None, None)


def test_a_day_that_is_given_twice_is_refused() -> None:
    """It would be drawn twice as often."""
    with pytest.raises(InvalidInput, match="twice"):
        unit_cost([*days(3), *days(3)], TODAY)


def test_a_saving_compares_the_same_days() -> None:
    """What made a day dear for both versions is no difference between them."""
    parent = [DayTotal(d.day, d.requests * (10 + i), d.requests) for i, d in enumerate(days(28))]
    variant = [DayTotal(d.day, d.requests * (8 + i), d.requests) for i, d in enumerate(days(28))]
    found = saving_per_request(parent, variant, TODAY)
    assert found == Estimate(Fraction(2), Fraction(2), Fraction(2), 28)


def test_days_on_which_only_one_served_are_no_pair() -> None:
    """A parent's four weeks and a variant's two overlap in two."""
    assert saving_per_request(days(28, price=5), days(14), TODAY).days == 14
    assert saving_per_request(days(28, price=5), days(28, [0]), TODAY).value is None


def test_samples_are_whole_weeks_in_a_row() -> None:
    """28 days are four blocks of seven following days, inside the window."""
    samples = list(block_samples(28, 50, SEED))
    assert len(samples) == 50
    for sample in samples:
        blocks = [sample[i : i + 7] for i in range(0, 28, 7)]
        assert all(block == list(range(block[0], block[0] + 7)) for block in blocks)
        assert 0 <= min(sample) <= max(sample) < 28
    assert {sample[0] for sample in samples} > {0, 21}


def test_a_stored_seed_gives_the_same_samples_everywhere() -> None:
    """The sample follows from the first published numbers of SplitMix64 at seed 0."""
    published = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC)
    sample = next(block_samples(28, 1, 0))
    assert sample[::7] == [number * 22 >> 64 for number in published]


def test_energy_and_carbon_carry_the_limits_of_their_coefficients() -> None:
    """Proportional coefficients multiply; one without limits leaves them unknown."""
    grid = CoefficientRange(Fraction(400), Fraction(300), Fraction(600))
    building = CoefficientRange(Fraction("1.2"), Fraction("1.2"), Fraction("1.8"))
    assert at_coefficients(Fraction(100), [grid]) == (Fraction(75), Fraction(150))
    assert at_coefficients(Fraction(100), [grid, building]) == (Fraction(75), Fraction(225))
    assert at_coefficients(Fraction(100), [grid, CoefficientRange(Fraction(1))]) is None
    assert at_coefficients(Fraction(100), []) is None
