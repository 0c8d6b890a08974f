"""What the current month, quarter and year will have come to: for a model, a team, or all.

The past is roll-ups by day. A day on which nothing was reserved cost nothing; a day with device
time but without an amount is unknown, and so is everything before the first charge.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from steelyard.domain.errors import NotFound
from steelyard.domain.forecast import (
    BASIS_WEEKS,
    LEAST_ORIGINS,
    MOST_ORIGINS,
    WEEK,
    Outlook,
    Period,
    outlook,
)
from steelyard.domain.measures import FIELDS, Amount, shared_out
from steelyard.domain.ownership import stretches, teams_on
from steelyard.domain.span import day_number, day_of, today

if TYPE_CHECKING:
    from steelyard.adapters.sql.budgets import BudgetStore
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.ports.clock import Clock

ScopeKind = Literal["model", "team", "all"]
Measure = Literal["cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "device_us"]
MEASURES: tuple[Measure, ...] = ("cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "device_us")
PERIODS: tuple[Period, ...] = ("month", "quarter", "year")
HISTORY_DAYS = WEEK * (MOST_ORIGINS + BASIS_WEEKS + 53)
"""Enough for the widest band of a whole year ahead."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose amounts: a model's, those of a team's models while it owned them, or all supply."""

    kind: ScopeKind = "all"
    name: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Known amounts of complete days since the first charge, and of today so far.

    ``today`` is None when it has device time but no known amount, ``known`` is False when no day
    with device time has one: then nothing can be said of what was spent.
    """

    daily: Mapping[date, int]
    today: int | None
    began: date
    known: bool = True

    def outlook(self, present: date, period: Period, growth: Fraction = Fraction(0)) -> Outlook:
        """The period at its end; days before the first charge are no unknown ones."""
        found = _outlook(tuple(self.daily.items()), present, period, growth)
        start = max(found.first, self.began)
        past = (start + timedelta(days=n) for n in range((present - start).days))
        return replace(found, unknown_days=sum(day not in self.daily for day in past))


@dataclass(frozen=True, slots=True)
class ForecastLine:
    """One measure at the end of one period, in its ledger unit.

    ``spent`` is of complete days, None when no day is known; ``today`` of the present one so
    far, which ``expected`` has in its forecast part. ``missing_days`` of the last 28 are not
    known: with any there is no forecast. ``missing_weeks`` of further history are needed before
    there is a band. ``coverage`` is the chance that the band holds the actual.
    """

    measure: Measure
    period: Period
    first_day: date
    last_day: date
    spent: int | None
    today: int | None
    unknown_days: int
    expected: int | None
    low: int | None
    high: int | None
    coverage: float | None
    missing_days: int
    missing_weeks: int
    growth_per_week: float


class Outlooks:
    """Forecasts from roll-ups."""

    def __init__(self, reports: "ReportStore", budgets: "BudgetStore", clock: "Clock") -> None:
        self._reports = reports
        self._budgets = budgets
        self._clock = clock

    def forecast(
        self, scope: Scope, growth_per_week: Fraction = Fraction(0),
        measures: Sequence[Measure] = MEASURES,
    ) -> list[ForecastLine]:  # fmt: skip
        """Every measure at the end of the month, the quarter and the year.

        Raises:
            NotFound: there is no such model or team.
            InvalidInput: traffic would shrink below nothing.
        """
        present, amounts = self.present(), self.amounts(scope)
        return [
            _line(measure, period, history(amounts, measure, present), present, growth_per_week)
            for measure in measures
            for period in PERIODS
        ]

    def present(self) -> date:
        """Today (UTC)."""
        return today(self._clock.now_us())

    def completeness(self, scope: Scope) -> float | None:
        """Windows received of expected for what the scope owns today; None without any."""
        models: Collection[str] | None = None
        if scope.kind == "model":
            models = [scope.name]
        elif scope.kind == "team":
            owners = teams_on(self._budgets.ownership(), day_number(self.present()))
            models = [model for model, team in owners.items() if team == scope.name]
        share = self._reports.completeness(models).share
        return None if share is None else min(1.0, share)

    def amounts(self, scope: Scope) -> list[Amount]:
        """What was charged to a scope by day, as far back as a forecast looks.

        Raises:
            NotFound: there is no such model or team.
        """
        self._must_exist(scope)
        last = day_number(self.present())
        days = (last - HISTORY_DAYS, last)
        if scope.kind == "all":
            return self._reports.by_day(None, days)
        if scope.kind == "model":
            return self._of_models({scope.name}, days)
        owned = [
            (stretch.models(scope.name), (stretch.first_day, stretch.last_day))
            for stretch in stretches(self._budgets.ownership(), *days)
        ]
        return [one for models, part in owned if models for one in self._of_models(models, part)]

    def _of_models(self, models: Collection[str], days: tuple[int, int]) -> list[Amount]:
        only = next(iter(models)) if len(models) == 1 else None
        shared = shared_out(*self._reports.shared_idle(only, days))
        mine = [one for one in shared if one.model in models]
        return [*self._reports.by_day(models, days), *mine]

    def _must_exist(self, scope: Scope) -> None:
        if scope.kind == "all":
            return
        known = (
            set(self._reports.models()) if scope.kind == "model"
            else {record.team for record in self._budgets.ownership()}
        )  # fmt: skip
        if scope.name not in known:
            listed = ", ".join(sorted(known)) or "none yet"
            raise NotFound(
                f"The ledger knows no {scope.kind} {scope.name!r}.", f"It knows: {listed}."
            )


def history(amounts: Iterable[Amount], measure: Measure, present: date) -> History:
    """The known days of a measure."""
    found: dict[int, int] = {}
    reserved: set[int] = set()
    for one in amounts:
        if one.day is None:
            continue
        if FIELDS[one.unit] == measure:
            found[one.day] = found.get(one.day, 0) + one.amount
        if one.unit == "device_us":
            reserved.add(one.day)
    last = day_number(present)
    first = min((*found, *reserved), default=last)
    known = {day: found.get(day, 0) for day in range(first, last)
             if day in found or day not in reserved}  # fmt: skip
    so_far = found.get(last, None if last in reserved else 0)
    return History({day_of(day): amount for day, amount in known.items()}, so_far, day_of(first),
                   known=bool(found) or not reserved)  # fmt: skip


def _line(
    measure: Measure, period: Period, past: History, present: date, growth: Fraction
) -> ForecastLine:
    found = past.outlook(present, period, growth)
    ahead, spent = found.ahead, found.spent
    basis = [present - timedelta(days=n + 1) for n in range(WEEK * BASIS_WEEKS)]
    banded = ahead is not None and ahead.coverage is not None
    return ForecastLine(
        measure=measure, period=period, first_day=found.first, last_day=found.last,
        spent=spent if past.known else None,
        today=past.today, unknown_days=found.unknown_days, expected=found.expected,
        low=None if ahead is None or ahead.low is None else spent + ahead.low,
        high=None if ahead is None or ahead.high is None else spent + ahead.high,
        coverage=float(ahead.coverage) if ahead is not None and ahead.coverage else None,
        missing_days=sum(day not in past.daily for day in basis),
        missing_weeks=0 if banded else _missing_weeks(found, past, present),
        growth_per_week=float(growth),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _outlook(
    days: tuple[tuple[date, int], ...], present: date, period: Period, growth: Fraction
) -> Outlook:
    """Complete days do not change, so a server need not forecast from them twice."""
    return outlook(dict(days), present, period, growth)


def _missing_weeks(found: Outlook, past: History, present: date) -> int:
    """Weeks of further history until eight forecasts of this length can be compared."""
    length = -(-((found.last - present).days + 1) // WEEK)
    needed = length + LEAST_ORIGINS - 1 + BASIS_WEEKS
    run = 0
    while present - timedelta(days=run + 1) in past.daily:
        run += 1
    return max(0, needed - run // WEEK)
