from datetime import date, timedelta
from fractions import Fraction

import pytest

from steelyard.domain.measures import Amount, Measures
from steelyard.domain.span import day_number
from steelyard.domain.unit_economics import DayTotal, Estimate
from steelyard.services.economics import (
    BreakEvenOutlook,
    Days,
    break_even_outlook,
    carbon_score,
    daily_rate,
    day_totals,
    estimate,
    pay_back_outlook,
    per_thousand,
)

TODAY = date(2026, 11, 21)
NUMBER = day_number(TODAY)


def _days(count: int, amount: int, requests: int = 10) -> Days:
    """The last ``count`` complete days, all alike."""
    return tuple(DayTotal(TODAY - timedelta(days=n), amount, requests) for n in range(count, 0, -1))


def test_a_day_with_traffic_and_without_an_amount_is_unknown() -> None:
    """It is left out of unit costs, like its requests; a day of nothing at all is no day."""
    amounts = [
        Amount("a", 1, "inference", "consumer", "nUSD", "", 5, 1),
        Amount("a", 1, "inference", "idle", "nUSD", "", 4, 1),
        Amount("a", 1, "inference", "consumer", "device_us", "", 7, 3),
    ]
    found = day_totals(amounts, {1: 2, 2: 6}, "cost_nano")
    assert [(d.amount, d.requests) for d in found] == [(9, 2), (None, 6), (None, 0)]


def test_before_the_first_complete_day_the_average_so_far_stands_in_and_says_so() -> None:
    """0 days, no interval; without requests nothing is known."""
    found = per_thousand(estimate((), TODAY, 500, 100))
    assert (found.value, found.low, found.days) == (5_000, None, 0)
    assert per_thousand(estimate((), TODAY, 500, 0)).value is None
    assert per_thousand(estimate((), TODAY, None, 5)).value is None
    steady = per_thousand(estimate(_days(14, 30), TODAY, 1, 1))
    assert (steady.low, steady.value, steady.high, steady.days) == (3_000, 3_000, 3_000, 14)


def test_the_measured_traffic_is_that_of_complete_days_since_it_began() -> None:
    """Today is not complete, and days before the first request do not thin it out."""
    began = TODAY - timedelta(days=4)
    requests = {NUMBER - 4: 10, NUMBER - 2: 10, NUMBER: 10**6}
    assert daily_rate(requests, began, TODAY, None) == 5
    assert daily_rate({NUMBER: 7}, TODAY, TODAY, 2.5) == Fraction(5, 2)
    assert daily_rate({}, None, TODAY, None) is None


def test_the_published_daily_bill_breaks_even_in_the_667th_day() -> None:
    """$150,000 a day against $100M: 666.67 days; the date follows from what was served."""
    cost = Estimate(Fraction(150_000), Fraction(100_000), Fraction(200_000), 28)
    found = break_even_outlook(100_000_000, cost, Fraction(1), 600, [], TODAY)
    assert (found.requests, found.first_whole_day) == (667, 667)
    assert (found.requests_low, found.requests_high) == (500, 1_000)
    assert found.expected_on == TODAY + timedelta(days=67)
    assert found.crossed_on is None


def test_once_crossed_the_day_is_told_and_none_is_expected() -> None:
    """The first day at whose end inference had cost as much as training."""
    cost = Estimate(Fraction(10), None, None, 3)
    spent = [(TODAY - timedelta(days=n), 60) for n in (3, 2, 1)]
    found = break_even_outlook(100, cost, Fraction(6), 18, spent, TODAY)
    assert found.crossed_on == TODAY - timedelta(days=2)
    assert found.expected_on is None
    assert break_even_outlook(None, cost, None, 0, spent, TODAY) == BreakEvenOutlook()


def test_a_break_even_beyond_the_calendar_has_no_date() -> None:
    """A trickle of traffic against a large training: requests are told, a date is not."""
    cost = Estimate(Fraction(1), None, None, 3)
    found = break_even_outlook(10**12, cost, Fraction(1), 0, [], TODAY)
    assert (found.requests, found.expected_on) == (10**12, None)


def test_a_variant_pays_with_an_interval_from_fourteen_paired_days() -> None:
    """$2 of making, $0.001 saved a request, 500 a day: 2,000 requests, 4 days (A23)."""
    parent, variant = _days(28, 20_000_000), _days(28, 10_000_000)
    found = pay_back_outlook(2 * 10**9, (1, 1), (1, 1), (parent, variant), Fraction(500), TODAY)
    assert (found.verdict, found.requests, found.days) == ("pays", 2_000, 4.0)
    assert (found.requests_low, found.requests_high, found.paired_days) == (2_000, 2_000, 28)
    assert (found.point_estimate, found.saving_per_1000) == (False, 10**9)


def test_savings_that_may_be_nothing_are_not_proven() -> None:
    """Days that save much and days that lose much: no upper end."""
    parent = tuple(DayTotal(d.day, 20_000 if n % 2 else 2_000, 10)
                   for n, d in enumerate(_days(28, 1)))  # fmt: skip
    variant = tuple(DayTotal(d.day, 10_500, 10) for d in parent)
    found = pay_back_outlook(10**6, (1, 1), (1, 1), (parent, variant), None, TODAY)
    assert (found.verdict, found.requests_high, found.days) == ("not_proven", None, None)
    assert not found.point_estimate
    assert found.requests_low is not None


@pytest.mark.parametrize(
    ("making", "parent", "variant", "verdict", "requests"),
    [
        (2_000, (20, 10), (10, 10), "not_proven", 2_000),
        (2_000, (10, 10), (10, 10), "never", None),
        (2_000, (10, 10), (20, 10), "never", None),
        (2_000, (10, 0), (10, 10), "unknown", None),
        (2_000, (None, 10), (10, 10), "unknown", None),
        (None, (20, 10), (10, 10), "unknown", None),
    ],
)
def test_with_few_paired_days_there_is_a_point_or_nothing(
    making: int | None, parent: tuple[int | None, int], variant: tuple[int | None, int],
    verdict: str, requests: int | None,
) -> None:  # fmt: skip
    """A point is labelled so, and never called proven."""
    found = pay_back_outlook(making, parent, variant, ((), ()), None, TODAY)
    assert (found.verdict, found.requests, found.point_estimate) == (verdict, requests, True)


def test_a_carbon_score_needs_both_kinds_of_carbon_and_a_count() -> None:
    """6,500 kg over 50e9 requests are 0.13 g per 1,000; a part that is unknown leaves it so."""
    served = Measures(carbon_ug=5_000 * 10**9, embodied_ug=1_500 * 10**9)
    trained = Measures(carbon_ug=3 * 10**9, embodied_ug=10**9, flop=10**18)
    found = carbon_score(served, 50 * 10**9, trained)
    assert found.consumer_g_per_1000 == pytest.approx(0.13)
    assert found.provider_g_per_exaflop == pytest.approx(4_000)
    unknown = carbon_score(Measures(carbon_ug=1), 10, Measures(carbon_ug=1, embodied_ug=1))
    assert (unknown.consumer_g_per_1000, unknown.provider_g_per_exaflop) == (None, None)
