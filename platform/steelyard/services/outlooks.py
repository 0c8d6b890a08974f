"""What the current month, quarter and year will have come to: for a model, a team, or all.

The past is roll-ups by day. A day on which nothing was reserved cost nothing; a day with device
time but without an amount is unknown, and so is everything before the first charge.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
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
    period_of,
)
from steelyard.domain.ledger import Unit
from steelyard.domain.measures import FIELDS, shared_out
from steelyard.domain.ownership import Ownership, teams_on, tenures
from steelyard.domain.span import day_number, day_of, today

if TYPE_CHECKING:
    from steelyard.adapters.sql.budgets import BudgetStore
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.ports.clock import Clock

ScopeKind = Literal["model", "team", "all"]
Measure = Literal["cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "device_us"]
MEASURES: tuple[Measure, ...] = ("cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "device_us")
PERIODS: tuple[Period, ...] = ("month", "quarter", "year")
UNITS: Mapping[str, Unit] = {field: unit for unit, field in FIELDS.items()}
Daily = Mapping[Unit, Mapping[int, int]]
"""What was charged, by unit and day."""


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
        found = outlook(self.daily, present, period, growth)
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
        present = self.present()
        charged = self.charged(scope, measures, PERIODS)
        return [
            _line(measure, period, history(charged, measure, present, period), present,
                  growth_per_week)
            for measure in measures
            for period in PERIODS
        ]  # fmt: skip

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

    def charged(
        self, scope: Scope, measures: Collection[Measure], periods: Collection[Period]
    ) -> Daily:
        """What was charged to a scope by day, as far back as these forecasts look.

        Device time is always there: it tells an unknown day from one that cost nothing.

        Raises:
            NotFound: there is no such model or team.
        """
        self.must_exist(scope)
        present = self.present()
        last = day_number(present)
        days = (min(_looks_back(present, period) for period in periods), last)
        units = {UNITS[measure] for measure in (*measures, "device_us")}
        if scope.kind == "all":
            return self._reports.by_day(None, days, units)
        if scope.kind == "model":
            return self._of_models({scope.name}, days, units)
        return _added(
            self._of_models(models, part, units)
            for part, models in _owned(self._budgets.ownership(), scope.name, days).items()
        )

    def _of_models(
        self, models: Collection[str], days: tuple[int, int], units: Collection[Unit]
    ) -> Daily:
        shared: dict[Unit, dict[int, int]] = {}
        for one in shared_out(*self._reports.shared_idle(models, days, units)):
            if one.model in models and one.day is not None:
                of_unit = shared.setdefault(one.unit, {})
                of_unit[one.day] = of_unit.get(one.day, 0) + one.amount
        return _added((self._reports.by_day(models, days, units), shared))

    def must_exist(self, scope: Scope) -> None:
        """Raise NotFound unless the ledger knows the model or team."""
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


def _owned(
    records: Sequence[Ownership], team: str, days: tuple[int, int]
) -> dict[tuple[int, int], set[str]]:
    """The models of a team by the days over which it owned them."""
    found: dict[tuple[int, int], set[str]] = {}
    for one in tenures(records, *days):
        if one.team == team:
            found.setdefault((one.first_day, one.last_day), set()).add(one.model)
    return found


def _added(parts: Iterable[Daily]) -> Daily:
    found: dict[Unit, dict[int, int]] = {}
    for part in parts:
        for unit, days in part.items():
            sums = found.setdefault(unit, {})
            for day, amount in days.items():
                sums[day] = sums.get(day, 0) + amount
    return found


def _looks_back(present: date, period: Period) -> int:
    """The first day that a forecast of the rest of a period asks about, or that lies in it.

    Its widest band compares as many forecasts of that length as ever count.
    """
    first, last = period_of(present, period)
    weeks = -(-((last - present).days + 1) // WEEK) + MOST_ORIGINS - 1 + BASIS_WEEKS
    return min(day_number(present) - WEEK * weeks, day_number(first))


def history(charged: Daily, measure: Measure, present: date, period: Period) -> History:
    """The known days of a measure, as far back as the forecast of a period looks."""
    last, earliest = day_number(present), _looks_back(present, period)
    found, reserved = (
        {day: amount for day, amount in charged.get(unit, {}).items() if day >= earliest}
        for unit in (UNITS[measure], UNITS["device_us"])
    )
    first = min((*found, *reserved), default=last)
    known = {day_of(day): found.get(day, 0) for day in range(first, last)
             if day in found or day not in reserved}  # fmt: skip
    so_far = found.get(last, None if last in reserved else 0)
    return History(known, so_far, day_of(first), known=bool(found) or not reserved)


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


def _missing_weeks(found: Outlook, past: History, present: date) -> int:
    """Weeks of further history until eight forecasts of this length can be compared."""
    length = -(-((found.last - present).days + 1) // WEEK)
    needed = length + LEAST_ORIGINS - 1 + BASIS_WEEKS
    run = 0
    while present - timedelta(days=run + 1) in past.daily:
        run += 1
    return max(0, needed - run // WEEK)
