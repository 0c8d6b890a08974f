"""What the days ahead will take, from the same weekdays of the last four weeks.

The forecast of a day is the mean of that weekday over four complete weeks. Growth is a scenario
that a user states, never fitted. The band is how wrong this method was before: the lowest and
highest ratio of actual to forecast over the last rolling origins. If those ratios and the next
one are exchangeable, it lies inside with probability (k−1)/(k+1); origins a week apart overlap
when more than a week is forecast, so for a month or a quarter that figure is an approximation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from itertools import accumulate
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
    sums = _Sums.of(daily)
    expected = _expected(sums, first.toordinal(), days, growth_per_week)
    if expected is None:
        return None
    ratios = _ratios(sums, first.toordinal(), days)
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


@dataclass(frozen=True, slots=True)
class _Sums:
    """Days as running sums: any stretch of them is one subtraction.

    ``amounts[n]`` is the sum and ``known[n]`` the number of the known days before ``first`` + n.
    """

    first: int
    amounts: Sequence[int]
    known: Sequence[int]

    @classmethod
    def of(cls, daily: Mapping[date, int]) -> "_Sums":
        """Sums from the first known day to the last."""
        numbered = {day.toordinal(): amount for day, amount in daily.items()}
        first, last = min(numbered, default=0), max(numbered, default=-1)
        days = range(first, last + 1)
        return cls(
            first,
            [*accumulate((numbered.get(day, 0) for day in days), initial=0)],
            [*accumulate((day in numbered for day in days), initial=0)],
        )

    def total(self, start: int, days: int) -> int | None:
        """The sum of so many days from ``start`` on; None when one of them is unknown."""
        left, right = start - self.first, start - self.first + days
        if left < 0 or right >= len(self.known) or self.known[right] - self.known[left] < days:
            return None
        return self.amounts[right] - self.amounts[left]


def _expected(
    sums: _Sums, first: int, days: int, growth: Fraction = Fraction(0)
) -> Fraction | None:
    """The four weeks before ``first``, over and over: whole weeks, and the first days of one."""
    whole = sums.total(first - WEEK * BASIS_WEEKS, WEEK * BASIS_WEEKS)
    if whole is None:
        return None
    weeks, rest = divmod(days, WEEK)
    starts = (first - WEEK * back for back in range(1, BASIS_WEEKS + 1))
    part = sum(sums.total(start, rest) or 0 for start in starts)
    factors = [(1 + growth) ** (n + 1) for n in range(weeks + 1)] if growth else [1] * (weeks + 1)
    return (sum(factors[:-1]) * whole + factors[-1] * part) * Fraction(1, BASIS_WEEKS)


def _ratios(sums: _Sums, first: int, days: int) -> list[Fraction]:
    """Actual over forecast at the last origins, newest first, up to the first one not known."""
    ratios: list[Fraction] = []
    origin = first - -(-days // WEEK) * WEEK  # on the weekday of ``first``
    while len(ratios) < MOST_ORIGINS:
        actual, expected = sums.total(origin, days), _expected(sums, origin, days)
        if actual is None or not expected:
            break
        ratios.append(actual / expected)
        origin -= WEEK
    return ratios
