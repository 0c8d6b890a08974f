"""Read models: what models cost to train against what they cost to run.

Money, energy, carbon and device time are sums of roll-ups of the ledger's entries; requests,
items and FLOPs are sums of usage days. A measure that was not posted is None: unknown, not 0.
A span limits what is counted; break-even, pay-back and unit costs are always about everything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from steelyard.domain.measures import (
    BASES,
    Amount,
    by_tier,
    measures,
    metered_share,
    shared_out,
    sides,
    tier_shares,
)
from steelyard.domain.metering import LedgerPhase
from steelyard.domain.ownership import stretches, teams_on
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
    from steelyard.adapters.sql.reports import Days, ReportStore
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

    def brief(self, model: str) -> Brief:
        """One line about a model."""
        account = self._account(model, None)
        found, traffic = account.sides, account.traffic
        both = found.on("allocation")
        return Brief(model, both.training, both.inference, traffic.requests,
                     break_even_so_far(found, traffic)["allocation"])  # fmt: skip

    def model(self, model: str, span: Span | None = None) -> ModelStatement:
        """The statement of one model; empty when nothing was posted yet."""
        whole = self._account(model, None)
        shown = whole if span is None else self._account(model, _days(span))
        recent, moves = self._recent(model), self._moves(model)
        present = today(self._clock.now_us())
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
                version_statement(model, number, shown.of(number), whole, recent, present)
                for number in shown.numbers()
            ),
            training=found.training, training_idle=found.training_idle, serving=found.serving,
            idle=found.idle, bases={basis: found.on(basis) for basis in BASES},
            energy_by_tier_mj=tiers, energy_by_tier_share=tier_shares(tiers),
            energy_metered_share=metered, energy_estimated=not metered,
            completeness=self.received(model, span), traffic=shown.traffic,
            requests_so_far=traffic.requests, break_even=break_even_so_far(everything, traffic),
            break_even_outlook={b: outlook(b, whole, recent, moves, present) for b in BASES},
            per_1000={b: per_1000(b, whole, recent, present) for b in BASES},
            training_runs=whole.runs(), per_training_run=mean_of(both.training, whole.runs()),
            carbon_score=carbon_score(both.inference, traffic.requests, both.training),
            series=_series(moves, span),
        )  # fmt: skip

    def ledger(self, span: Span | None = None) -> LedgerStatement:
        """The whole ledger, and what each team's models cost."""
        days = _days(span) if span else None
        amounts = self._reports.amounts(days=days)
        shared = self._shared(None, days)
        flops = self._reports.flops(days)
        owned = sides([*amounts, *shared], *_flops(flops)).on("allocation")
        idle = [a for a in amounts if a.role == "idle" and a.model is None]
        tiers = by_tier(amounts)
        return LedgerStatement(
            supply=measures(_negative(a for a in amounts if a.role == "supply")),
            training=owned.training, inference=owned.inference,
            unowned_idle=measures([*idle, *_negative(shared)]),
            overhead=measures(a for a in amounts if a.role == "overhead"),
            energy_by_tier_mj=tiers, energy_by_tier_share=tier_shares(tiers),
            energy_metered_share=metered_share(tiers),
            completeness=self.received(None, span), teams=tuple(self._teams(span)),
        )  # fmt: skip

    def _teams(self, span: Span | None) -> Iterable[TeamStatement]:
        """What each team's models cost in the days on which they were its."""
        present = day_number(today(self._clock.now_us()))
        first, last = _days(span) if span else (0, present)
        owners = self._budgets.ownership()
        found: dict[str, list[Amount]] = {}
        models: dict[str, set[str]] = {}
        flops: dict[str, Counter[tuple[str, LedgerPhase]]] = {}
        parts = stretches(owners, first, last) if owners else []
        for stretch in parts:
            whole = span is None and len(parts) == 1
            days = None if whole else (stretch.first_day, stretch.last_day)
            amounts = [*self._reports.amounts(days=days), *self._shared(None, days)]
            computed = self._reports.flops(days)
            for team in {team for _, team in stretch.teams}:
                mine = stretch.models(team)
                models.setdefault(team, set()).update(mine)
                found.setdefault(team, []).extend(a for a in amounts if a.model in mine)
                flops.setdefault(team, Counter()).update(
                    {key: n for key, n in computed.items() if key[0] in mine}
                )
        for team in sorted(found):
            both = sides(found[team], *_flops(flops[team])).on("allocation")
            yield TeamStatement(team, tuple(sorted(models[team])), both.training, both.inference,
                                by_tier(found[team]))  # fmt: skip

    def _account(self, model: str, days: "Days") -> Account:
        known = {int(v["version"]): v for v in self._catalog.versions(model)}
        amounts = [*self._reports.amounts(model, days), *self._shared(model, days)]
        return Account(amounts, self._reports.used(model, days), known)

    def _shared(self, model: str | None, days: "Days") -> list[Amount]:
        parts = shared_out(*self._reports.shared_idle(model, days))
        return [part for part in parts if model in (None, part.model)]

    def _recent(self, model: str) -> Recent:
        present = day_number(today(self._clock.now_us()))
        days = (present - WINDOW_DAYS, present - 1)
        amounts = [*self._reports.daily(model, days), *self._shared(model, days)]
        return Recent(amounts, self._reports.requests_by_day(model, days))

    def _moves(self, model: str) -> Moves:
        shared = [
            ((a.day + 1) * DAY_US, a.phase or "", a.role, a.amount)
            for a in self._shared(model, None) if a.unit == "nUSD" and a.day is not None
        ]  # fmt: skip
        return sorted([*self._ledger.movements(model, "nUSD"), *shared])

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


def _negative(amounts: Iterable[Amount]) -> list[Amount]:
    return [replace(one, amount=-one.amount) for one in amounts]


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
