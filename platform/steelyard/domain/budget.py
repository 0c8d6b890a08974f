"""Is a budget kept: what was spent and what is forecast, against a limit."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from steelyard.domain.errors import InvalidInput
from steelyard.domain.forecast import Outlook

BudgetState = Literal["ok", "warn", "will_exceed", "exceeded"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit for one calendar period, in a ledger unit (money, energy, carbon, device time).

    ``warn_at`` is the part of the limit from which spending is worth a word.
    """

    limit: int
    warn_at: Fraction = Fraction(4, 5)

    def __post_init__(self) -> None:
        if self.limit <= 0 or not 0 < self.warn_at <= 1:
            raise InvalidInput(
                f"A budget has a limit above 0 and warns at a part of it, found {self.limit} "
                f"and {self.warn_at}."
            )


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The judgement and every reason for it; ``spent`` includes today so far."""

    state: BudgetState
    reasons: tuple[str, ...]
    spent: int
    expected: int | None


def check_budget(budget: Budget, outlook: Outlook, spent_today: int = 0) -> BudgetStatus:
    """Judge a budget by what was spent and what the period is expected to come to.

    ``exceeded``: more than the limit was spent. ``will_exceed``: the expected total is above it.
    ``warn``: spending has reached ``warn_at``, or the upper end of the forecast's band is above
    the limit. Without a forecast only spending is judged, and a reason says so.
    """
    spent = outlook.spent + spent_today
    expected, high = outlook.expected, _high(outlook)
    reasons: list[str] = []
    if spent >= budget.warn_at * budget.limit:
        reasons.append(f"{_percent(spent, budget)} of the limit was spent")
    if high is not None and high > budget.limit:
        reasons.append(f"the upper end of the forecast is {_percent(high, budget)} of the limit")
    state: BudgetState = "warn" if reasons else "ok"
    if spent > budget.limit:
        state = "exceeded"
    elif expected is not None and expected > budget.limit:
        state = "will_exceed"
        share = _percent(expected, budget)
        reasons.insert(0, f"{share} of the limit is expected by {outlook.last}")
    if outlook.ahead is None:
        reasons.append("no forecast: a day of the last four weeks is unknown")
    if outlook.unknown_days:
        reasons.append(f"{outlook.unknown_days} days of the period are unknown and in no total")
    return BudgetStatus(state, tuple(reasons), spent, expected)


def _high(outlook: Outlook) -> int | None:
    if outlook.ahead is None or outlook.ahead.high is None:
        return None
    return outlook.spent + outlook.ahead.high


def _percent(amount: int, budget: Budget) -> str:
    return f"{float(Fraction(100 * amount, budget.limit)):.4g} %"
