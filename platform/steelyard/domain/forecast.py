"""What the days ahead will take, from the same weekdays of the last four weeks.

The forecast of a day is the mean of that weekday over four complete weeks. Growth is a scenario
that a user states, never fitted. The band is how wrong this method was before: the lowest and
highest ratio of actual to forecast over the last rolling origins. If those ratios and the next
one are exchangeable, it lies inside with probability (k−1)/(k+1); origins a week apart overlap
when more than a week is forecast, so for a month or a quarter that figure is an approximation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Literal

from steelyard.domain.allocation import round_half_even
from steelyard.domain.errors import InvalidInput

WEEK = 7
BASIS_WEEKS = 4
LEAST_ORIGINS = 8
MOST_ORIGINS = 39
"""(39 − 1)/(39 + 1) is 95 %; older origins would only widen the band."""

Period = Literal["month", "quarter", "year"]
MONTHS: Mapping[Period, int] = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True, slots=True)
class Forecast:
    """The total expected from ``first`` to ``last`` (both included), in the unit of the history.

    ``low`` and ``high`` are None without eight ``origins``; ``coverage`` is the chance that the
    band holds the actual, None with them. ``growth_per_week`` is the scenario it was made under.
    """

    first: date
    last: date
    expected: int
    low: int | None
    high: int | None
    origins: int
    coverage: Fraction | None
    growth_per_week: Fraction


def forecast(
    daily: Mapping[date, int], first: date, last: date, growth_per_week: Fraction = Fraction(0)
) -> Forecast | None:
    """Forecast from ``first``, the day after the last complete one, to ``last``.

    ``daily`` holds the known amounts of complete days; a missing day is unknown, not 0.
    ``growth_per_week`` multiplies the n-th week by (1 + growth)^n. None when one of the 28 days
    before ``first`` is unknown.

    Raises:
        InvalidInput: ``last`` comes before ``first``, or traffic would shrink below nothing.
    """
    days = (last - first).days + 1
    if days < 1 or growth_per_week <= -1:
        raise InvalidInput(
            f"A forecast ends after it starts and growth is above -1, found {first} to {last} "
            f"and {growth_per_week}."
        )
    expected = _expected(daily, first, days, growth_per_week)
    if expected is None:
        return None
    ratios = _ratios(daily, first, days)
    banded = len(ratios) >= LEAST_ORIGINS
    return Forecast(
        first=first, last=last, expected=round_half_even(expected),
        low=round_half_even(expected * min(ratios)) if banded else None,
        high=round_half_even(expected * max(ratios)) if banded else None,
        origins=len(ratios),
        coverage=Fraction(len(ratios) - 1, len(ratios) + 1) if banded else None,
        growth_per_week=growth_per_week,
    )  # fmt: skip


def period_of(day: date, period: Period) -> tuple[date, date]:
    """The first and last day of the calendar month, quarter or year that holds ``day``.

    >>> period_of(date(2024, 2, 10), "month")[1], period_of(date(2024, 2, 10), "quarter")[1]
    (datetime.date(2024, 2, 29), datetime.date(2024, 3, 31))
    """
    months = MONTHS[period]
    start = date(day.year, (day.month - 1) // months * months + 1, 1)
    after = start.month - 1 + months
    following = date(start.year + after // 12, after % 12 + 1, 1)
    return start, following - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Outlook:
    """A calendar period at its end: what complete days spent, and the forecast of the rest.

    ``ahead`` begins with today, which is not complete. ``unknown_days`` of the past are in no
    total.
    """

    first: date
    last: date
    spent: int
    unknown_days: int
    ahead: Forecast | None

    @property
    def expected(self) -> int | None:
        """Spent and forecast together; None without a forecast."""
        return self.spent + self.ahead.expected if self.ahead else None


def outlook(
    daily: Mapping[date, int], today: date, period: Period, growth_per_week: Fraction = Fraction(0)
) -> Outlook:
    """What the current month, quarter or year will have come to."""
    first, last = period_of(today, period)
    past = [first + timedelta(days=i) for i in range((today - first).days)]
    known = [daily[day] for day in past if day in daily]
    ahead = forecast(daily, today, last, growth_per_week)
    return Outlook(first, last, sum(known), len(past) - len(known), ahead)


def _expected(
    daily: Mapping[date, int], first: date, days: int, growth: Fraction = Fraction(0)
) -> Fraction | None:
    week: list[Fraction] = []
    for weekday in range(WEEK):
        same = [daily.get(first + timedelta(days=weekday - WEEK * back))
                for back in range(1, BASIS_WEEKS + 1)]  # fmt: skip
        known = [amount for amount in same if amount is not None]
        if len(known) < BASIS_WEEKS:
            return None
        week.append(Fraction(sum(known), BASIS_WEEKS))
    return sum((week[i % WEEK] * (1 + growth) ** (i // WEEK + 1) for i in range(days)), Fraction(0))


def _ratios(daily: Mapping[date, int], first: date, days: int) -> list[Fraction]:
    """Actual over forecast at the last origins, newest first, up to the first one not known."""
    ratios: list[Fraction] = []
    origin = first - timedelta(days=-(-days // WEEK) * WEEK)  # on the weekday of ``first``
    while len(ratios) < MOST_ORIGINS:
        span = [daily.get(origin + timedelta(days=i)) for i in range(days)]
        known = [amount for amount in span if amount is not None]
        expected = _expected(daily, origin, days)
        if expected is None or not expected or len(known) < days:
            break
        ratios.append(sum(known) / expected)
        origin -= timedelta(days=WEEK)
    return ratios
