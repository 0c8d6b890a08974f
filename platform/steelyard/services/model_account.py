"""A model's account, read from roll-ups: as a whole, by version, and what follows from it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from steelyard.domain.allocation import round_half_even
from steelyard.domain.break_even import DAY_S, BreakEven, break_even
from steelyard.domain.compute import compute_alert
from steelyard.domain.ledger import Role, Unit
from steelyard.domain.lineage import Upstream, upstream
from steelyard.domain.measures import BASES, FIELDS, Amount, Basis, Measures, Sides, by_tier, sides
from steelyard.domain.sensitivity import Place, coefficient_limits
from steelyard.domain.span import day_of, today
from steelyard.services import economics as e
from steelyard.services.accounts import (
    ComputeLine,
    Traffic,
    UpstreamStatement,
    VersionStatement,
)
from steelyard.services.pay_backs import pay_backs

if TYPE_CHECKING:
    from steelyard.adapters.sql.reports import Used

DAY_US = 86_400_000_000
Versions = Mapping[int, Mapping[str, Any]]
Moves = Sequence[tuple[int, str, str, int]]
"""What was charged over time: (until, phase, role, nano-USD), in order."""
ROLES: Mapping[Basis, tuple[Role, ...]] = {
    "usage": ("consumer",), "allocation": ("consumer", "idle"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recent:
    """A model's last 28 complete days: amounts, and requests by version and day."""

    amounts: Sequence[Amount]
    requests: Sequence[tuple[int, int, int]]

    def days(self, version: int | None, basis: Basis, field: str) -> e.Days:
        """Inference's amounts and requests a day; of the whole model without a version."""
        mine = [
            a
            for a in self.amounts
            if a.phase == "inference" and a.role in ROLES[basis] and version in (None, a.version)
        ]
        return e.day_totals(mine, self.by_day(version), field)

    def by_day(self, version: int | None) -> dict[int, int]:
        """Requests by day; of the whole model without a version."""
        found: dict[int, int] = {}
        for day, number, requests in self.requests:
            if version in (None, number):
                found[day] = found.get(day, 0) + requests
        return found


@dataclass(frozen=True)
class Account:
    """What roll-ups and usage days say about a model, over everything or a span."""

    amounts: "Sequence[Amount]"
    used: "Sequence[Used]"
    versions: Versions

    def numbers(self) -> list[int | None]:
        """The versions, oldest first, and None when something belongs to none of them."""
        named = sorted(n for n in {*self.versions, *self._parts} if n is not None)
        return [*named, None] if None in self._parts else [*named]

    def of(self, version: int | None) -> "Account":
        """The part of one version, its run included."""
        return self._parts.get(version) or Account((), (), self.versions)

    @cached_property
    def _parts(self) -> "dict[int | None, Account]":
        runs = {v["run_id"]: n for n, v in self.versions.items()}
        amounts: dict[int | None, list[Amount]] = {}
        used: dict[int | None, list[Used]] = {}
        for one in self.amounts:
            amounts.setdefault(one.version, []).append(one)
        for row in self.used:
            whose = runs.get(row.run_id) if row.version is None else row.version
            used.setdefault(whose, []).append(row)
        return {
            number: Account(amounts.get(number, ()), used.get(number, ()), self.versions)
            for number in {*amounts, *used}
        }

    @cached_property
    def sides(self) -> Sides:
        """The account by phase and role."""
        return sides(self.amounts, self._flop("training"), self._flop("inference"))

    def _flop(self, phase: str) -> int | None:
        known = [u.flop for u in self.used if u.phase == phase and u.flop is not None]
        return sum(known) if known else None

    @cached_property
    def traffic(self) -> Traffic:
        """Requests that were served, and their rate from the first window to the last."""
        rows = self._served()
        requests = sum(u.requests for u in rows)
        began = min((u.start_us for u in rows), default=0)
        span_us = max((u.end_us for u in rows), default=0) - began
        return Traffic(
            requests, sum(u.errors for u in rows), sum(u.items for u in rows),
            sum(u.cache_hits for u in rows), sum(u.tokens_in for u in rows),
            sum(u.tokens_out for u in rows),
            requests * DAY_S * 1_000_000 / span_us if requests and span_us > 0 else None,
        )  # fmt: skip

    def began(self) -> date | None:
        """The first day with traffic; None before it."""
        return min((today(u.start_us) for u in self._served()), default=None)

    def runs(self) -> int:
        """How many runs trained, compressed or evaluated."""
        return len({u.run_id for u in self.used if u.phase == "training" and u.run_id})

    def _served(self) -> "list[Used]":
        return [u for u in self.used if u.phase == "inference" and u.activity == "serve"]


def version_statement(
    model: str, number: int | None, shown: Account, whole: Account, recent: Recent,
    present: date, compute: tuple[ComputeLine, ...],
) -> VersionStatement:  # fmt: skip
    """One version: what is shown of it, and what follows from all that is known."""
    row: Mapping[str, Any] = whole.versions.get(number or 0, {})
    found, all_time = shown.sides, whole.of(number)
    paid = pay_backs(number, row.get("parent"), whole, recent, present)
    return VersionStatement(
        version=number, variant=row.get("variant"), relation=row.get("relation"),
        parent=row.get("parent"), run_id=row.get("run_id"),
        training=found.training, training_idle=found.training_idle, serving=found.serving,
        idle=found.idle, bases={basis: found.on(basis) for basis in BASES},
        energy_by_tier_mj=by_tier(shown.amounts), compute=compute, traffic=shown.traffic,
        break_even=break_even_so_far(all_time.sides, all_time.traffic)["allocation"],
        pay_back=paid.get("cost_nano"), pay_back_energy=paid.get("energy_mj"),
        pay_back_carbon=paid.get("carbon_ug"),
        upstream=None if number is None else _upstream(model, number, whole),
    )  # fmt: skip


def _upstream(model: str, number: int, whole: Account) -> UpstreamStatement:
    """What the distinct ancestors' own training cost, each counted once."""
    own = {n: whole.of(n).sides.training for n in whole.versions}
    parents = {f"{model}/{n}": [f"{model}/{row['parent']}"] if row["parent"] else []
               for n, row in whole.versions.items()}  # fmt: skip

    def above(field: str) -> Upstream:
        amounts = {f"{model}/{n}": getattr(training, field) for n, training in own.items()}
        return upstream(amounts, parents, f"{model}/{number}")

    found = {field.name: above(field.name) for field in fields(Measures)}
    alert = compute_alert(f"{model}/{number}", found["flop"])
    return UpstreamStatement(
        tuple(sorted(found["flop"].ancestors)),
        Measures(**{name: None if u.unknown else u.upstream for name, u in found.items()}),
        alert.flop, alert.state,
    )  # fmt: skip


def break_even_so_far(found: Sides, traffic: Traffic) -> dict[Basis, BreakEven]:
    """At the average cost of a request so far."""

    def on(basis: Basis) -> BreakEven:
        both = found.on(basis)
        if both.training.cost_nano is None:
            return BreakEven(None, None, crossed=False)
        return break_even(both.training.cost_nano, both.inference.cost_nano or 0,
                          traffic.requests, traffic.requests_per_day)  # fmt: skip

    return {basis: on(basis) for basis in BASES}


def outlook(
    basis: Basis, whole: Account, recent: Recent, moves: Moves, present: date
) -> e.BreakEvenOutlook:
    """At the cost of a request in the last 28 complete days."""
    both, traffic = whole.sides.on(basis), whole.traffic
    cost = e.estimate(recent.days(None, basis, "cost_nano"), present,
                      both.inference.cost_nano, traffic.requests)  # fmt: skip
    rate = e.daily_rate(recent.by_day(None), whole.began(), present, traffic.requests_per_day)
    spent = [(day_of((at_us - 1) // DAY_US), amount) for at_us, phase, role, amount in moves
             if phase == "inference" and role in ROLES[basis]]  # fmt: skip
    return e.break_even_outlook(
        both.training.cost_nano, cost, rate, traffic.requests, spent, present
    )


def per_1000(
    basis: Basis, whole: Account, recent: Recent, present: date, places: Collection[Place]
) -> dict[str, e.PerThousand]:
    """What 1,000 requests take, by measure; ``places`` are those that inference ran in."""
    both, requests = whole.sides.on(basis), whole.traffic.requests

    def of(unit: Unit, field: str) -> e.PerThousand:
        cost = e.estimate(
            recent.days(None, basis, field), present, getattr(both.inference, field), requests
        )
        tiers = _tiers(recent.amounts if cost.days else whole.amounts, basis, unit)
        ends = None if cost.value is None else coefficient_limits(cost.value, unit, tiers, places)
        return e.per_thousand(cost, ends)

    return {field: of(unit, field) for unit, field in FIELDS.items()}


def _tiers(amounts: Iterable[Amount], basis: Basis, unit: Unit) -> dict[str, int]:
    """Inference's amounts in one unit by the method that found them."""
    found: dict[str, int] = {}
    for one in amounts:
        if one.phase == "inference" and one.unit == unit and one.role in ROLES[basis]:
            found[one.tier] = found.get(one.tier, 0) + one.amount
    return found


def mean_of(whole: Measures, runs: int) -> Measures:
    """The mean of a run; unknown without one."""

    def mean(amount: int | None) -> int | None:
        return round_half_even(Fraction(amount, runs)) if runs and amount is not None else None

    return Measures(**{f.name: mean(getattr(whole, f.name)) for f in fields(whole)})
