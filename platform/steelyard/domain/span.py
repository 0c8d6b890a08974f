"""Which days a report is about, and how a person names them."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.forecast import period_of

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Span:
    """Whole days (UTC), both ends included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise InvalidInput(f"A span ends after it starts, found {self.first} to {self.last}.")

    @property
    def first_day(self) -> int:
        """Days since 1970-01-01, as roll-ups count them."""
        return day_number(self.first)

    @property
    def last_day(self) -> int:
        """The last day, in the same count."""
        return day_number(self.last)


def day_number(day: date) -> int:
    """Days since 1970-01-01.

    >>> day_number(date(1970, 1, 2))
    1
    """
    return (day - EPOCH).days


def day_of(number: int) -> date:
    """The date of a number of days since 1970-01-01."""
    return EPOCH + timedelta(days=number)


def month_number(day: int) -> int:
    """Months since the year 0 of the month that holds a day, as roll-ups count them.

    >>> month_number(day_number(date(2026, 11, 21))) - month_number(day_number(date(2025, 11, 30)))
    12
    """
    found = day_of(day)
    return 12 * found.year + found.month - 1


def month_start(month: int) -> int:
    """The first day of a month, both as roll-ups count them."""
    return day_number(date(month // 12, month % 12 + 1, 1))


def whole_months(first_day: int, last_day: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The whole months among the days, and the days before and after them; both ends included.

    The months end before they begin when there are none.

    >>> whole_months(day_number(date(2026, 1, 31)), day_number(date(2026, 3, 1)))
    ((24313, 24313), [(20484, 20484), (20513, 20513)])
    >>> whole_months(day_number(date(2026, 1, 2)), day_number(date(2026, 1, 9)))
    ((24313, 24312), [(20455, 20462)])
    """
    begins, ends = day_of(first_day), day_of(last_day)
    in_first, in_last = begins.day > 1, ends.day < monthrange(ends.year, ends.month)[1]
    first, last = month_number(first_day) + in_first, month_number(last_day) - in_last
    if last < first:
        return (first, first - 1), [(first_day, last_day)]
    before = [(first_day, month_start(first) - 1)] if in_first else []
    after = [(month_start(last + 1), last_day)] if in_last else []
    return (first, last), [*before, *after]


def today(now_us: int) -> date:
    """The day (UTC) of a moment in microseconds."""
    return datetime.fromtimestamp(now_us / 1e6, UTC).date()


def span_of(
    first: str | None, last: str | None, period: str | None, present: date
) -> Span | None:  # fmt: skip
    """The span that somebody typed; None when they typed nothing: everything.

    ``period`` is a year (2026), a quarter (2026-Q4) or a month (2026-11). ``first`` and ``last``
    are days; without ``last`` it is ``present``, without ``first`` the beginning of everything.

    >>> span_of(None, None, "2026-11", date(2026, 11, 21)).last
    datetime.date(2026, 11, 30)

    Raises:
        InvalidInput: no such day or period, both forms at once, or an end before its start.
    """
    if period is not None and (first is not None or last is not None):
        raise InvalidInput("A period and single days exclude each other.", hint="Give one of them.")
    if period is not None:
        return _period(period)
    if first is None and last is None:
        return None
    found = (_day("from", first) if first else EPOCH, _day("to", last) if last else present)
    if found[1] < found[0]:
        raise InvalidInput(f"From {found[0]} to {found[1]} there is no day.")
    return Span(*found)


def _day(where: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        fault = Fault(where, f"{text!r} is not a day")
        raise InvalidInput(str(fault), (fault,), "Write a day like 2026-11-21.") from error


def _period(text: str) -> Span:
    found = re.fullmatch(r"(\d{4})(?:-(?:Q([1-4])|(0[1-9]|1[0-2])))?", text)
    if not found or found[1] == "0000":
        fault = Fault("period", f"{text!r} is not a period")
        raise InvalidInput(str(fault), (fault,), "Write 2026, 2026-Q4 or 2026-11.")
    year = int(found[1])
    if found[3]:
        return Span(*period_of(date(year, int(found[3]), 1), "month"))
    if found[2]:
        return Span(*period_of(date(year, 3 * int(found[2]), 1), "quarter"))
    return Span(*period_of(date(year, 1, 1), "year"))
