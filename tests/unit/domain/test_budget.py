from datetime import date
from fractions import Fraction

import pytest

from steelyard.domain.budget import Budget, BudgetState, check_budget
from steelyard.domain.errors import InvalidInput
from steelyard.domain.forecast import Forecast, Outlook

FIRST, TODAY, LAST = date(2024, 3, 1), date(2024, 3, 20), date(2024, 3, 31)


def month(spent: int, ahead: int | None, high: int | None = None, unknown: int = 0) -> Outlook:
    """A month with so much spent and so much expected of the rest of it."""
    expected = None
    if ahead is not None:
        expected = Forecast(TODAY, LAST, ahead, None if high is None else ahead, high, 8,
                            None, Fraction(0))  # fmt: skip
    return Outlook(FIRST, LAST, spent, unknown, expected)


@pytest.mark.parametrize(
    ("spent", "ahead", "high", "state"),
    [
        (50, 20, 40, "ok"),
        (79, 21, 21, "ok"),
        (80, 10, None, "warn"),
        (50, 20, 51, "warn"),
        (50, 51, 60, "will_exceed"),
        (100, 0, 0, "warn"),
        (101, 0, 0, "exceeded"),
        (101, None, None, "exceeded"),
        (79, None, None, "ok"),
    ],
)
def test_a_budget_of_100_is_judged(
    spent: int, ahead: int | None, high: int | None, state: BudgetState
) -> None:
    """Exceeded is a fact, will_exceed a forecast, warn a reason to look."""
    found = check_budget(Budget(100), month(spent, ahead, high))
    assert found.state == state
    assert bool(found.reasons) == (state != "ok" or ahead is None)


def test_today_counts_as_soon_as_it_is_spent() -> None:
    """A bad morning exceeds a budget today, not tomorrow."""
    calm = month(90, 5)
    assert check_budget(Budget(100), calm).state == "warn"
    assert check_budget(Budget(100), calm, spent_today=11).state == "exceeded"
    assert check_budget(Budget(100), calm, spent_today=11).spent == 101


def test_reasons_say_how_much_and_until_when() -> None:
    """People read the reason, not the state."""
    found = check_budget(Budget(100), month(50, 60))
    assert found.reasons == ("110 % of the limit is expected by 2024-03-31",)
    assert found.expected == 110
    both = check_budget(Budget(100), month(80, 10, 30))
    assert both.reasons == (
        "80 % of the limit was spent",
        "the upper end of the forecast is 110 % of the limit",
    )


def test_what_is_not_known_is_a_reason() -> None:
    """Without a forecast, or with unknown days, "ok" is worth less and says so."""
    found = check_budget(Budget(100), month(10, None, unknown=3))
    assert found.state == "ok"
    assert found.expected is None
    assert found.reasons == (
        "no forecast: a day of the last four weeks is unknown",
        "3 days of the period are unknown and in no total",
    )


@pytest.mark.parametrize(("limit", "warn_at"), [(0, 1), (-5, 1), (10, 0), (10, 2)])
def test_a_budget_without_a_limit_is_refused(limit: int, warn_at: int) -> None:
    """Nothing could ever be within it."""
    with pytest.raises(InvalidInput):
        Budget(limit, Fraction(warn_at))
