"""Budgets of models and teams: set, list, and judge against spending and forecast."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING

from steelyard.domain.budget import Budget, BudgetState, check_budget
from steelyard.domain.budget_record import BudgetRecord
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.forecast import Period
from steelyard.domain.model_version import MODEL_NAME
from steelyard.domain.ownership import DAY_US, Ownership, teams_on
from steelyard.domain.span import EPOCH, day_number
from steelyard.services import words
from steelyard.services.outlooks import (
    MEASURES,
    PERIODS,
    Daily,
    Measure,
    Outlooks,
    Scope,
    history,
)

if TYPE_CHECKING:
    from steelyard.adapters.sql.budgets import BudgetStore
    from steelyard.ports.clock import Clock

WHOLE_BP = 10_000


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget and how it stands in the current period, amounts in the measure's ledger unit.

    ``state``: ``ok``, ``warn``, ``will_exceed`` or ``exceeded``, with every reason. ``expected``
    is the forecast at ``last_day``; None without one. ``spent`` includes today so far; None when
    no amount of the measure is known at all.
    """

    scope_kind: str
    scope: str
    measure: str
    period: str
    limit: int
    warn_bp: int
    state: BudgetState
    reasons: tuple[str, ...]
    spent: int | None
    expected: int | None
    first_day: date
    last_day: date
    completeness_share: float | None
    set_by: str
    set_us: int


class Budgets:
    """The use cases of limits and of who owns which model."""

    def __init__(self, store: "BudgetStore", outlooks: Outlooks, clock: "Clock") -> None:
        self._store = store
        self._outlooks = outlooks
        self._clock = clock

    def set(
        self, scope: Scope, measure: str, period: str, limit: int, warn_bp: int, actor: str
    ) -> BudgetLine:  # fmt: skip
        """Set a limit; an earlier one of the same scope, measure and period counts no more.

        Raises:
            NotFound: there is no such model or team.
            InvalidInput: a limit of nothing, a warning outside it, or an unknown measure.
        """
        faults = [
            *_faults(measure, period),
            *([] if 0 < warn_bp <= WHOLE_BP else [Fault("warn", "is not above 0 to 100 %")]),
            *([] if 0 < limit < 2**63 else [Fault("limit", "is not above 0, or is too large")]),
        ]
        if faults:
            raise InvalidInput("The budget is malformed.", tuple(faults))
        self._outlooks.must_exist(scope)
        record = BudgetRecord(scope.kind, scope.name, measure, period, limit, warn_bp, actor,
                              self._clock.now_us())  # fmt: skip
        self._store.add(record)
        return self._lines(scope, [record])[0]

    def withdraw(self, scope: Scope, measure: str, period: str, actor: str) -> BudgetRecord:
        """Take a limit back: it stays on record and counts no more. Returns the record of that.

        Raises:
            NotFound: no limit of this scope, measure and period counts.
            InvalidInput: an unknown measure or period.
        """
        if faults := _faults(measure, period):
            raise InvalidInput("The budget is malformed.", tuple(faults))
        wanted = (scope.kind, scope.name, measure, period)
        for one in self._store.budgets():
            if (one.scope_kind, one.scope, one.measure, one.horizon) == wanted:
                record = replace(one, created_by=actor, recorded_us=self._clock.now_us(),
                                 kind="withdrawal")  # fmt: skip
                self._store.add(record)
                return record
        raise NotFound(
            f"No limit of {words.NAMES[measure]} counts for the {scope.kind} {scope.name!r}"
            f" and a {period}.",
            "steelyard ledger budget list shows the limits that count.",
        )

    def lines(self, scope: Scope | None = None) -> list[BudgetLine]:
        """Every budget that counts, or those of one model or team, as it stands now."""
        by_scope: dict[Scope, list[BudgetRecord]] = {}
        for one in self._store.budgets():
            whose = Scope("team" if one.scope_kind == "team" else "model", one.scope)
            if scope in (None, whose):
                by_scope.setdefault(whose, []).append(one)
        return [line for whose, some in by_scope.items() for line in self._lines(whose, some)]

    def owners(self) -> dict[str, str]:
        """Model -> the team that owns it today."""
        return teams_on(self._store.ownership(), day_number(self._outlooks.present()))

    def assign(self, model: str, team: str, since: date | None = None) -> Ownership:
        """Record that a model belongs to a team: from a day on, by default from today.

        The first team of a model owns it from the beginning unless a day is given.

        Raises:
            InvalidInput: the team's name has other characters than names have.
        """
        if not MODEL_NAME.fullmatch(team):
            fault = Fault("team", f"{team!r} is no name")
            raise InvalidInput(str(fault), (fault,), "Names use a-z, 0-9, '-' and '_'.")
        known = any(record.model == model for record in self._store.ownership())
        first = since or (self._outlooks.present() if known else EPOCH)
        record = Ownership(model, team, day_number(first) * DAY_US, self._clock.now_us())
        self._store.own(record)
        return record

    def _lines(self, scope: Scope, records: Sequence[BudgetRecord]) -> list[BudgetLine]:
        """Several budgets of one scope, whose amounts are read once."""
        measures, periods = {_measure(one) for one in records}, {_period(one) for one in records}
        charged = self._outlooks.charged(scope, measures, periods)
        share, present = self._outlooks.completeness(scope), self._outlooks.present()
        return [_line(one, charged, present, share) for one in records]


def _line(
    record: BudgetRecord, charged: Daily, present: date, completeness: float | None
) -> BudgetLine:
    past = history(charged, _measure(record), present, _period(record))
    budget = Budget(record.amount, Fraction(record.warn_bp, WHOLE_BP))
    found = past.outlook(present, _period(record))
    status = check_budget(budget, found, past.today or 0)
    unknown = () if past.today is not None else ("what today cost is unknown so far",)
    return BudgetLine(
        record.scope_kind, record.scope, record.measure, record.horizon, record.amount,
        record.warn_bp, status.state, (*status.reasons, *unknown),
        status.spent if past.known else None, status.expected, found.first, found.last,
        completeness, record.created_by, record.recorded_us,
    )  # fmt: skip


def _faults(measure: str, period: str) -> list[Fault]:
    return [
        *([] if measure in MEASURES else [Fault("measure", f"{measure!r} is no measure")]),
        *([] if period in PERIODS else [Fault("period", f"{period!r} is no period")]),
    ]


def _measure(record: BudgetRecord) -> Measure:
    return next(one for one in MEASURES if one == record.measure)


def _period(record: BudgetRecord) -> Period:
    return next(one for one in PERIODS if one == record.horizon)
