"""Read models: what models cost to train against what they cost to run.

Money, energy, carbon and device time are sums of roll-ups of the ledger's entries; requests,
items and FLOPs are sums of usage days. A measure that was not posted is None: unknown, not 0.
A span limits what is counted; break-even, pay-back and unit costs are always about everything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from steelyard.domain.ledger import Unit
from steelyard.domain.measures import (
    BASES,
    Amount,
    by_tier,
    less,
    measures,
    metered_share,
    shared_out,
    sides,
    tier_shares,
)
from steelyard.domain.metering import LedgerPhase
from steelyard.domain.ownership import teams_on, tenures
from steelyard.domain.span import Span, day_number, day_of, today
from steelyard.domain.unit_economics import WINDOW_DAYS
from steelyard.services.accounts import (
    Brief,
    LedgerStatement,
    ModelStatement,
    Point,
    Received,
    TeamStatement,
)
from steelyard.services.catalog_today import CatalogToday
from steelyard.services.economics import carbon_score
from steelyard.services.model_account import (
    DAY_US,
    Account,
    Moves,
    Recent,
    break_even_so_far,
    mean_of,
    outlook,
    per_1000,
    version_statement,
)

if TYPE_CHECKING:
    from steelyard.adapters.sql.budgets import BudgetStore
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.ledger import LedgerStore
    from steelyard.adapters.sql.reports import Days, Models, ReportStore
    from steelyard.ports.clock import Clock


class Statements:
    """Reports over the ledger."""

    def __init__(
        self, reports: "ReportStore", ledger: "LedgerStore", catalog: "CatalogStore",
        budgets: "BudgetStore", clock: "Clock",
    ) -> None:  # fmt: skip
        self._reports = reports
        self._ledger = ledger
        self._catalog = catalog
        self._budgets = budgets
        self._clock = clock

    def models(self) -> list[str]:
        """Every model that the ledger or the registry's copy knows."""
        known = {str(v["model"]) for v in self._catalog.versions()}
        return sorted(known.union(self._reports.models()))

    def briefs(self) -> list[Brief]:
        """A line about every model, from one read of what all of them cost."""
        cost: tuple[Unit, ...] = ("nUSD",)
        shared = shared_out(*self._reports.shared_idle(units=cost))
        charged: dict[str | None, list[Amount]] = {}
        for one in (*self._reports.amounts(units=cost), *shared):
            charged.setdefault(one.model, []).append(one)
        used = self._reports.used()
        return [
            _brief(model, Account(charged.get(model, ()), used.get(model, ()), {}))
            for model in self.models()
        ]

    def model(self, model: str, span: Span | None = None) -> ModelStatement:
        """The statement of one model; empty when nothing was posted yet."""
        shared = self._shared([model])
        whole = self._account(model, None, shared)
        shown = whole if span is None else self._account(model, _days(span), shared)
        recent, moves = self._recent(model, shared), self._moves(model, shared)
        present, catalog = today(self._clock.now_us()), self._catalog_today()
        places = catalog.places(self._reports.places(model, _since_us(recent, present)))
        head = self._ledger.head()
        found, everything = shown.sides, whole.sides
        both, tiers = everything.on("allocation"), by_tier(shown.amounts)
        traffic, metered = whole.traffic, metered_share(tiers)
        owners = teams_on(self._budgets.ownership(), day_number(span.last if span else present))
        return ModelStatement(
            model=model, team=owners.get(model), as_of_us=self._clock.now_us(),
            first_day=span.first if span else None, last_day=span.last if span else None,
            ledger_seq=head.seq if head else 0, ledger_hash=head.hash if head else "",
            versions=tuple(
                version_statement(model, number, shown.of(number), whole, recent, present,
                                  catalog.compute(shown.of(number).used))
                for number in shown.numbers()
            ),
            training=found.training, training_idle=found.training_idle, serving=found.serving,
            idle=found.idle, bases={basis: found.on(basis) for basis in BASES},
            energy_by_tier_mj=tiers, energy_by_tier_share=tier_shares(tiers),
            energy_metered_share=metered, energy_estimated=not metered,
            completeness=self.received(model, span), traffic=shown.traffic,
            requests_so_far=traffic.requests, break_even=break_even_so_far(everything, traffic),
            break_even_outlook={b: outlook(b, whole, recent, moves, present) for b in BASES},
            per_1000={b: per_1000(b, whole, recent, present, places) for b in BASES},
            training_runs=whole.runs(), per_training_run=mean_of(both.training, whole.runs()),
            carbon_score=carbon_score(both.inference, traffic.requests, both.training),
            series=_series(moves, span),
        )  # fmt: skip

    def ledger(self, span: Span | None = None) -> LedgerStatement:
        """The whole ledger, and what each team's models cost."""
        days = _days(span) if span else None
        everything = self._shared(None)
        amounts, shared = self._reports.amounts(days=days), _within(everything, days)
        flops = self._reports.flops(days=days)
        owned = sides([*amounts, *shared], *_flops(flops)).on("allocation")
        idle = [a for a in amounts if a.role == "idle" and a.model is None]
        tiers = by_tier(amounts)
        return LedgerStatement(
            supply=measures(_negative(a for a in amounts if a.role == "supply")),
            training=owned.training, inference=owned.inference,
            unowned_idle=less(measures(idle), measures(shared)),
            overhead=measures(a for a in amounts if a.role == "overhead"),
            energy_by_tier_mj=tiers, energy_by_tier_share=tier_shares(tiers),
            energy_metered_share=metered_share(tiers),
            completeness=self.received(None, span), teams=tuple(self._teams(days, everything)),
        )  # fmt: skip

    def _teams(self, days: "Days", shared: Sequence[Amount]) -> Iterable[TeamStatement]:
        """What each team's models cost in the days on which they were its."""
        whole = (0, day_number(today(self._clock.now_us())))
        parts: dict[tuple[int, int], dict[str, str]] = {}
        for one in tenures(self._budgets.ownership(), *(days or whole)):
            parts.setdefault((one.first_day, one.last_day), {})[one.model] = one.team
        found: dict[str, list[Amount]] = {team: [] for p in parts.values() for team in p.values()}
        models: dict[str, set[str]] = {team: set() for team in found}
        flops: dict[str, Counter[tuple[str, LedgerPhase]]] = {team: Counter() for team in found}
        for part, teams in parts.items():
            span = None if days is None and part == whole else part
            for model, team in teams.items():
                models[team].add(model)
            for amount in (*self._reports.amounts(teams, span), *_within(shared, span)):
                if amount.model in teams:
                    found[teams[amount.model]].append(amount)
            for (model, phase), count in self._reports.flops(teams, span).items():
                flops[teams[model]][model, phase] += count
        for team in sorted(found):
            both = sides(found[team], *_flops(flops[team])).on("allocation")
            yield TeamStatement(team, tuple(sorted(models[team])), both.training, both.inference,
                                by_tier(found[team]))  # fmt: skip

    def _account(self, model: str, days: "Days", shared: Sequence[Amount]) -> Account:
        known = {int(v["version"]): v for v in self._catalog.versions(model)}
        amounts = [*self._reports.by_version(model, days), *_within(shared, days)]
        return Account(amounts, self._reports.used([model], days).get(model, ()), known)

    def _shared(self, models: "Models") -> list[Amount]:
        """What owners carry of shared idle time, day by day."""
        parts = shared_out(*self._reports.shared_idle(models))
        return [part for part in parts if models is None or part.model in models]

    def _recent(self, model: str, shared: Sequence[Amount]) -> Recent:
        present = day_number(today(self._clock.now_us()))
        days = (present - WINDOW_DAYS, present - 1)
        amounts = [*self._reports.daily(model, days), *_within(shared, days)]
        return Recent(amounts, self._reports.requests_by_day(model, days))

    def _catalog_today(self) -> CatalogToday:
        now_us = self._clock.now_us()
        return CatalogToday(self._catalog, self._catalog.rate_book(now_us), now_us)

    def _moves(self, model: str, shared: Sequence[Amount]) -> Moves:
        idle = [
            ((a.day + 1) * DAY_US, a.phase or "", a.role, a.amount)
            for a in shared if a.unit == "nUSD" and a.day is not None
        ]  # fmt: skip
        return sorted([*self._ledger.movements(model, "nUSD"), *idle])

    def received(self, model: str | None = None, span: Span | None = None) -> Received:
        """How many of the expected windows arrived: of one model, or of all."""
        models = None if model is None else [model]
        found = self._reports.completeness(models, _days(span) if span else None)
        share = None if found.share is None else min(1.0, found.share)
        return Received(found.received, found.expected, found.boots, found.open_boots, share)


def _flops(known: Mapping[tuple[str, LedgerPhase], int]) -> tuple[int | None, int | None]:
    """FLOPs of training and of inference; None where none are known."""
    training = [n for (_, phase), n in known.items() if phase == "training"]
    inference = [n for (_, phase), n in known.items() if phase == "inference"]
    return (sum(training) if training else None, sum(inference) if inference else None)


def _brief(model: str, account: Account) -> Brief:
    both, traffic = account.sides.on("allocation"), account.traffic
    return Brief(model, both.training.cost_nano, both.inference.cost_nano, traffic.requests,
                 break_even_so_far(account.sides, traffic)["allocation"])  # fmt: skip


def _within(amounts: Sequence[Amount], days: "Days") -> Sequence[Amount]:
    if days is None:
        return amounts
    return [a for a in amounts if a.day is not None and days[0] <= a.day <= days[1]]


def _negative(amounts: Iterable[Amount]) -> list[Amount]:
    return [replace(one, amount=-one.amount) for one in amounts]


def _since_us(recent: Recent, present: date) -> int:
    """From when on unit costs are about: the last complete days, or everything before there are."""
    return (day_number(present) - WINDOW_DAYS) * DAY_US if recent.requests else 0


def _days(span: Span) -> tuple[int, int]:
    return span.first_day, span.last_day


def _series(moves: Moves, span: Span | None) -> tuple[Point, ...]:
    """Cost since the beginning, at the moments within the span."""

    def add(total: tuple[int, int], move: tuple[int, str, str, int]) -> tuple[int, int]:
        training, inference = total
        if move[1] == "training":
            return training + move[3], inference
        return training, inference + (move[3] if move[1] == "inference" else 0)

    totals = list(accumulate(moves, add, initial=(0, 0)))[1:]
    points = [Point(move[0], *total) for move, total in zip(moves, totals, strict=True)]
    last = tuple(list(group)[-1] for _, group in groupby(points, key=lambda p: p.at_us))
    if span is None:
        return last
    return tuple(p for p in last if span.first <= day_of((p.at_us - 1) // DAY_US) <= span.last)
