"""Choosing among a parent and its variants: which to serve for so much traffic, or to make."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from steelyard.domain.cost import Price
from steelyard.domain.evidence import Evidence
from steelyard.domain.gates import GatePolicy, judge
from steelyard.domain.model_version import ModelVersion, VersionRef
from steelyard.domain.pareto import AXES, measured
from steelyard.domain.prospect import Basis, Kind, Precedent, Prospect, precedent, prospect
from steelyard.domain.recommend import (
    WORTH_TRYING,
    Ask,
    Candidate,
    Recommendation,
    asked,
    check_ask,
    recommend,
)
from steelyard.domain.request_cost import (
    Anchor,
    RequestCost,
    Side,
    anchor,
    device_ms,
    relative,
    row_nano,
)
from steelyard.domain.span import day_number, today
from steelyard.domain.unit_economics import WINDOW_DAYS
from steelyard.services import economics
from steelyard.services.accounts import VersionStatement
from steelyard.services.comparisons import no_record, price_today, versions_of
from steelyard.services.gates import Gates, Standing
from steelyard.services.model_account import Recent
from steelyard.services.statements import Statements

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation for the versions of one parent, and what it was judged by."""

    model: str
    baseline: int
    policy: GatePolicy
    price: Price | None
    anchor: Anchor | None
    found: Recommendation


@dataclass(frozen=True, slots=True)
class Earning:
    """What a kind that is not made yet would earn beside a version, at that one's traffic."""

    requests_per_day: float | None
    prospect: Prospect


class Choosing:
    """The use case of choosing. ``sku`` names the price of the hardware that serves."""

    def __init__(
        self, registry: "Registry", gates: Gates, statements: Statements, reports: "ReportStore",
        catalog: "CatalogStore", clock: "Clock", sku: str,
    ) -> None:  # fmt: skip
        self._registry = registry
        self._gates = gates
        self._statements = statements
        self._reports = reports
        self._catalog = catalog
        self._clock = clock
        self._sku = sku

    def recommend(self, ref: VersionRef, ask: Ask) -> Advice:
        """The version of a parent's family to serve, or the kind to make.

        ``ref`` names the parent or a variant of it; a model alone stands for the family of its
        champion, without one that of its newest trained version.

        Raises:
            NotFound: there is no such model, version or alias.
            InvalidInput: what is asked cannot be meant.
        """
        check_ask(ask)
        versions = versions_of(self._registry, ref.model)
        baseline = _baseline(self._named(ref, versions), versions)
        family = [v for v in versions if baseline.version in (v.version, v.parent)]
        policy = asked(self._gates.policy(ref.model), ask)
        standings = {v.version: self._gates.standing(v) for v in family}
        fresh = _fresh(standings)
        price = price_today(self._catalog, self._clock, self._sku)
        books = self._books(baseline, fresh, price)
        candidates = [self._candidate(v, standings[v.version], policy, books) for v in family]
        kinds = self._kinds({v.variant for v in family})
        p95 = _of_baseline(baseline, fresh, partial(measured, AXES["latency"]))
        found = recommend(candidates, kinds, ask, Basis(books.anchor, p95, policy))
        return Advice(ref.model, baseline.version, policy, price, books.anchor, found)

    def earning(self, baseline: ModelVersion, kind: str, making_nano: int | None) -> Earning | None:
        """What a variant of a version would earn, were it like those of its kind that are there.

        ``making_nano`` is what making it is estimated to cost; None: what making those did. The
        answer is None while the version has served nothing.
        """
        lines = self._statements.model(baseline.model).versions
        line = next((v for v in lines if v.version == baseline.version), None)
        if line is None or not line.traffic.requests:
            return None
        versions = versions_of(self._registry, baseline.model)
        family = [v for v in versions if baseline.version in (v.version, v.parent)]
        price = price_today(self._catalog, self._clock, self._sku)
        fresh = _fresh({v.version: self._gates.standing(v) for v in family})
        books = self._books(baseline, fresh, price)
        seen = self._precedents().get(kind, [])
        if making_nano is not None:
            seen = [replace(one, making_nano=making_nano) for one in seen]
        basis = Basis(books.anchor, None, self._gates.policy(baseline.model))
        now, rate = books.served.get(baseline.version), line.traffic.requests_per_day
        return Earning(rate, prospect(
            Kind(kind, tuple(seen)), basis, now.value if now else None, round(rate or 0), 0
        ))  # fmt: skip

    def _named(self, ref: VersionRef, versions: Sequence[ModelVersion]) -> ModelVersion:
        aliases = self._registry.aliases(ref.model)
        number = ref.number(aliases) or aliases.get("champion")
        if number is None:
            trained = [v for v in versions if v.parent is None]
            return (trained or versions)[-1]
        return self._registry.version(ref.model, number)

    def _candidate(
        self, version: ModelVersion, standing: Standing, policy: GatePolicy, books: "_Books"
    ) -> Candidate:
        evidence = standing.record.evidence if standing.record else None
        findings = judge(policy, evidence, self._gates.here(version), version.parent is not None)
        time = books.times.get(version.version)
        cost = books.served.get(version.version)
        if cost is None and books.anchor is not None and time is not None:
            cost = RequestCost(books.anchor.at(time), basis="evidence")
        return Candidate(version.version, version.variant, findings, cost or RequestCost(), time,
                         no_record(standing))  # fmt: skip

    def _books(
        self, baseline: ModelVersion, evidence: Mapping[int, Evidence], price: Price | None
    ) -> "_Books":
        """What served requests cost, and the anchor from which the others are estimated."""
        own = evidence.get(baseline.version)
        beside = {n: relative(e, own) for n, e in evidence.items() if n != baseline.version}
        times = {n: time for n, time in beside.items() if time is not None}
        times[baseline.version] = Fraction(1)
        lines = {v.version: v for v in self._statements.model(baseline.model).versions
                 if v.version is not None}  # fmt: skip
        served = self._served(baseline.model, lines)
        time = _of_baseline(baseline, evidence, device_ms)
        row = row_nano(time, price.price_nano if price else None)
        from_ledger = [n for n in served if n in times]
        if not from_ledger:
            found = anchor(RequestCost(), row, Fraction(1), Fraction(1),
                           f"the evidence of {baseline.name} at the declared price")  # fmt: skip
            return _Books(times, served, found)
        busiest = max(from_ledger, key=lambda n: lines[n].traffic.requests)
        traffic = lines[busiest].traffic
        rows = Fraction(traffic.items or traffic.requests, traffic.requests)
        its_row = None if row is None else row * times[busiest]
        source = f"the ledger of {baseline.model}/{busiest}"
        return _Books(times, served, anchor(served[busiest], its_row, rows, times[busiest], source))

    def _served(self, model: str, lines: Mapping[int, VersionStatement]) -> dict[int, RequestCost]:
        """The unit cost of every version that served, on the basis ``usage``."""
        present = today(self._clock.now_us())
        days = (day_number(present) - WINDOW_DAYS, day_number(present) - 1)
        recent = Recent(
            self._reports.daily(model, days), self._reports.requests_by_day(model, days)
        )
        found: dict[int, RequestCost] = {}
        for number, line in lines.items():
            by_day = recent.days(number, "usage", "cost_nano")
            total, requests = line.serving.cost_nano, line.traffic.requests
            cost = economics.estimate(by_day, present, total, requests)
            if cost.value is not None:
                found[number] = RequestCost(cost.value, cost.low, cost.high, "ledger", cost.days)
        return found

    def _kinds(self, made: Collection[str]) -> list[Kind]:
        """The kinds that a parent has none of: those measured beside others, then the rest."""
        found = {name: seen for name, seen in self._precedents().items() if name not in made}
        known = [Kind(name, tuple(seen)) for name, seen in sorted(found.items())]
        return known + [Kind(name) for name in WORTH_TRYING if name not in {*made, *found}]

    def _precedents(self) -> dict[str, list[Precedent]]:
        """Variants that were measured on this hardware, by kind."""
        found: dict[str, list[Precedent]] = {}
        for model in self._registry.models():
            variants = [v for v in self._registry.versions(model) if v.parent is not None]
            if variants:
                statement = self._statements.model(model)
                costs = {v.version: v.training.cost_nano for v in statement.versions}
                for v in variants:
                    standing = self._gates.standing(v)
                    if standing.state == "fresh" and standing.record:
                        made = costs.get(v.version)
                        one = precedent(v.name, standing.record.evidence, made)
                        found.setdefault(v.variant, []).append(one)
        return found


@dataclass(frozen=True, slots=True)
class _Books:
    """Times by version as multiples of the baseline's, the cost of requests, and the anchor."""

    times: Mapping[int, Fraction]
    served: Mapping[int, RequestCost]
    anchor: Anchor | None


def _fresh(standings: Mapping[int, Standing]) -> dict[int, Evidence]:
    """The evidence that holds on this hardware, by version."""
    return {n: s.record.evidence for n, s in standings.items() if s.record and s.state == "fresh"}


def _baseline(named: ModelVersion, versions: Sequence[ModelVersion]) -> ModelVersion:
    """The parent of a family; a variant whose parent is gone stands for itself."""
    return next((v for v in versions if v.version == named.parent), named)


def _of_baseline(
    baseline: ModelVersion, evidence: Mapping[int, Evidence],
    figure: Callable[[Evidence, Side], Fraction | None],
) -> Fraction | None:  # fmt: skip
    """A figure of the baseline: its own, else the one that its newest variant has beside it."""
    if baseline.version in evidence:
        return figure(evidence[baseline.version], "own")
    newest = max(evidence, default=None)
    return None if newest is None else figure(evidence[newest], "parent")
