from datetime import date

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.span import Span, day_number, day_of, span_of, today

PRESENT = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026", date(2026, 1, 1), date(2026, 12, 31)),
        ("2026-Q4", date(2026, 10, 1), date(2026, 12, 31)),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
    ],
)
def test_a_period_is_a_year_a_quarter_or_a_month(text: str, first: date, last: date) -> None:
    """Whole days, both ends included."""
    assert span_of(None, None, text, PRESENT) == Span(first, last)


def test_days_may_be_open_at_either_end() -> None:
    """Without an end it is today, without a start the beginning, without both everything."""
    assert span_of("2026-11-01", None, None, PRESENT) == Span(date(2026, 11, 1), PRESENT)
    assert span_of(None, "2026-11-01", None, PRESENT) == Span(date(1970, 1, 1), date(2026, 11, 1))
    assert span_of(None, None, None, PRESENT) is None


@pytest.mark.parametrize(
    ("first", "last", "period"),
    [
        ("yesterday", None, None),
        ("2026-11-31", None, None),
        ("2026-11-02", "2026-11-01", None),
        ("2026-12-01", None, None),
        ("2026-11-01", None, "2026-11"),
        (None, None, "2026-13"),
        (None, None, "2026-Q5"),
        (None, None, "0000"),
        (None, None, ""),
    ],
)
def test_what_is_no_day_or_period_is_refused(
    first: str | None, last: str | None, period: str | None
) -> None:
    """Malformed, backwards, both forms at once, or all in the future."""
    with pytest.raises(InvalidInput):
        span_of(first, last, period, PRESENT)


def test_days_are_counted_from_1970_in_utc() -> None:
    """The last microsecond of a day belongs to it."""
    assert today(86_400_000_000 - 1) == date(1970, 1, 1)
    assert today(86_400_000_000) == date(1970, 1, 2)
    assert day_of(day_number(PRESENT)) == PRESENT
    with pytest.raises(InvalidInput):
        Span(date(2026, 1, 2), date(2026, 1, 1))
