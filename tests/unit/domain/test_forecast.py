from datetime import date, timedelta
from fractions import Fraction

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.forecast import Period, forecast, outlook, period_of

MONDAY = date(2024, 1, 1)
WEEK = [100, 110, 120, 130, 140, 60, 40]


def history(weeks: int) -> dict[date, int]:
    """So many equal weeks from a Monday on."""
    return {MONDAY + timedelta(days=i): WEEK[i % 7] for i in range(weeks * 7)}


def after(weeks: int, days: int = 0) -> date:
    """The day so many weeks and days after the history's first Monday."""
    return MONDAY + timedelta(weeks=weeks, days=days)


def test_equal_weeks_go_on_without_a_band() -> None:
    """Twelve equal weeks: the next is 700, band 0 from eight origins, coverage 7/9 (A24)."""
    found = forecast(history(12), after(12), after(12, 6))
    assert found is not None
    assert found.expected == found.low == found.high == 700
    assert (found.origins, found.coverage) == (8, Fraction(7, 9))


@pytest.mark.parametrize(("weekday", "expected"), [*enumerate(WEEK)])
def test_a_day_is_forecast_by_its_weekday(weekday: int, expected: int) -> None:
    """A Saturday is like the last Saturdays, whichever day today is."""
    day = after(12, weekday)
    found = forecast(history(12), after(12), day)
    assert found is not None
    assert found.expected == sum(WEEK[: weekday + 1])
    alone = forecast({**history(12), **{after(12, i): WEEK[i] for i in range(weekday)}}, day, day)
    assert alone is not None
    assert alone.expected == expected


def test_with_seven_origins_there_is_no_band() -> None:
    """Eleven weeks are four to forecast from and seven to check."""
    found = forecast(history(11), after(11), after(11, 6))
    assert found is not None
    assert (found.expected, found.low, found.high, found.coverage) == (700, None, None, None)
    assert found.origins == 7


def test_the_band_is_as_wide_as_the_method_was_wrong() -> None:
    """One week at double the traffic: too low by half then, too high for the four weeks after."""
    daily = history(16)
    for day in range(7):
        daily[after(8, day)] *= 2
    found = forecast(daily, after(16), after(16, 6))
    assert found is not None
    assert found.expected == 700
    assert found.high == 1400
    assert found.low == round(Fraction(700) * Fraction(4, 5))
    assert found.coverage == Fraction(11, 13)


def test_forty_origins_and_more_count_as_thirty_nine() -> None:
    """95 % coverage is enough; older origins would only widen the band."""
    found = forecast(history(60), after(60), after(60, 6))
    assert found is not None
    assert (found.origins, found.coverage) == (39, Fraction(19, 20))


def test_a_longer_forecast_is_checked_over_as_many_days() -> None:
    """Thirty days ahead are compared with thirty days, from origins a week apart."""
    found = forecast(history(16), after(16), after(16, 29))
    assert found is not None
    assert found.expected == 4 * 700 + 100 + 110
    assert found.origins == 8
    assert found.low == found.high == found.expected


def test_a_gap_in_the_last_four_weeks_leaves_the_forecast_unknown() -> None:
    """Unknown is not 0. An older gap only ends the origins."""
    daily = history(12)
    del daily[after(11, 6)]
    assert forecast(daily, after(12), after(12, 6)) is None
    daily = history(12)
    del daily[after(2)]
    found = forecast(daily, after(12), after(12, 6))
    assert found is not None
    assert (found.low, found.origins) == (None, 5)
    assert forecast({}, after(12), after(12, 6)) is None


def test_weeks_without_anything_have_no_ratio() -> None:
    """0 is forecast from zeros, but nothing can be said about how wrong that is."""
    found = forecast(dict.fromkeys(history(12), 0), after(12), after(12, 6))
    assert found is not None
    assert (found.expected, found.low, found.origins) == (0, None, 0)


def test_growth_is_what_the_user_says() -> None:
    """10 % a week: the first week ahead 770, the second 847; the history is not asked."""
    found = forecast(history(12), after(12), after(13, 6), Fraction(1, 10))
    assert found is not None
    assert found.expected == 770 + 847
    assert found.growth_per_week == Fraction(1, 10)


@pytest.mark.parametrize(
    ("day", "period", "first", "last"),
    [
        ("2024-02-10", "month", "2024-02-01", "2024-02-29"),
        ("2024-12-31", "month", "2024-12-01", "2024-12-31"),
        ("2024-05-15", "quarter", "2024-04-01", "2024-06-30"),
        ("2024-11-15", "quarter", "2024-10-01", "2024-12-31"),
        ("2024-07-15", "year", "2024-01-01", "2024-12-31"),
    ],
)
def test_periods_are_those_of_the_calendar(day: str, period: Period, first: str, last: str) -> None:
    """Months, quarters and years, leap day and year's end included."""
    bounds = (date.fromisoformat(first), date.fromisoformat(last))
    assert period_of(date.fromisoformat(day), period) == bounds


def test_the_outlook_adds_what_was_spent_and_what_is_ahead() -> None:
    """Monday 25 March, after twelve weeks: 24 days spent, seven ahead from today."""
    found = outlook(history(12), after(12), "month")
    assert (found.first, found.last) == (date(2024, 3, 1), date(2024, 3, 31))
    assert found.spent == sum(history(12)[date(2024, 3, 1) + timedelta(days=i)] for i in range(24))
    assert found.ahead is not None
    assert found.ahead.expected == 700
    assert found.expected == found.spent + 700
    assert found.unknown_days == 0


def test_an_outlook_names_the_days_it_does_not_know() -> None:
    """The start of the year was not metered: the sum lacks those days and says so."""
    daily = {day: amount for day, amount in history(12).items() if day >= after(4)}
    found = outlook(daily, after(12), "quarter")
    assert found.unknown_days == 28
    assert found.spent == 8 * 700
    assert outlook({}, after(12), "year").expected is None


@pytest.mark.parametrize(("days", "growth"), [(-1, 0), (3, -1), (3, -2)])
def test_an_impossible_forecast_is_refused(days: int, growth: int) -> None:
    """It ends before it starts, or less than nothing is left."""
    with pytest.raises(InvalidInput):
        forecast(history(12), after(12), after(12, days), Fraction(growth))
