"""What ``/metrics`` tells: the replicas' counters, and the ledger's and rollouts' state from SQL.

Amounts are a view in base units as Prometheus wants them, floats; the ledger is the truth. A
correction in the ledger may lower a total here, which a rate shows as a restart.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from steelyard import __version__
from steelyard.domain.exposition import Family, Sample, histogram
from steelyard.domain.ledger import Unit
from steelyard.domain.measures import Amount
from steelyard.domain.rollout import SECOND_US
from steelyard.domain.serving_counters import (
    BOUNDS_US,
    BUCKET_SLOTS,
    CACHE,
    CODES,
    OTHER,
    SHADOW,
    TRACES,
    Served,
)
from steelyard.domain.traffic import BUCKETS, Route

if TYPE_CHECKING:
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.services.budgets import BudgetLine, Budgets

Counts = Mapping[str, int]
Totals = Mapping[Served, Counts]
SECOND_NS = 1_000_000_000
NANO = 1_000_000_000
PHASES = ("progressing", "paused", "healthy", "degraded")
PER_UNIT: Mapping[Unit, tuple[str, int, str]] = {
    "device_us": ("device_seconds_total", SECOND_US, "Time of reserved devices."),
    "mJ": ("energy_joules_total", 1_000, "Energy of devices, by the method that found it."),
    "nUSD": ("cost_total", NANO, "Cost, a view of the ledger."),
    "ugCO2e_loc": ("emissions_co2e_grams_total", 1_000_000,
                   "Operational emissions, location-based."),
}  # fmt: skip
"""Ledger unit -> the metric, how many of the unit are one of its own, and its help."""


class Counters(Protocol):
    """What the replicas of this machine counted."""

    def totals(self) -> Totals:
        """By version, over all replicas that ever ran."""
        ...


class Waiting(Protocol):
    """What is on its way to the ledger."""

    def oldest_us(self) -> int | None:
        """Since when the oldest of it waits; None when nothing does."""
        ...

    def damaged(self) -> int:
        """Segments that could not be read."""
        ...


@dataclass(frozen=True)
class Monitoring:
    """The families of ``/metrics``."""

    counters: Counters
    waiting: Waiting
    rollouts: "RolloutStore"
    reports: "ReportStore"
    facts: "FactStore"
    budgets: "Budgets"
    clock: "Clock"

    def families(self) -> Iterator[Family]:
        """Everything, as it stands now."""
        yield Family("steelyard_build_info", "gauge", "The release that answers.",
                     [Sample({"version": __version__}, 1)])  # fmt: skip
        yield from inference(self.counters.totals())
        models = self.rollouts.models()
        routes = [route for model in models if (route := self.rollouts.route(model))]
        yield weights(routes)
        phases = {s.rollout.model: s.rollout.phase for model in models
                  for s in self.rollouts.rollouts(model, limit=1)}  # fmt: skip
        yield rollout_phases(phases)
        yield from amounts(one for m in self.reports.models() for one in self.reports.by_version(m))
        yield from budgets(self.budgets.lines())
        yield from self._ledger()

    def _ledger(self) -> Iterator[Family]:
        windows = [window.supply.window_end_us for window in self.facts.unposted(limit=1)]
        spooled = self.waiting.oldest_us()
        since = min([*windows, *([] if spooled is None else [spooled])], default=None)
        lag_us = 0 if since is None else max(0, self.clock.now_us() - since)
        yield Family("steelyard_ledger_lag_seconds", "gauge",
                     "Age of the oldest measurement that is not in the ledger yet; 0: none waits.",
                     [Sample({}, lag_us / SECOND_US)])  # fmt: skip
        failed = self.facts.conflicts() + self.waiting.damaged()
        yield Family("steelyard_ledger_write_failures_total", "counter",
                     "Facts that contradict others and segments that are damaged: kept aside.",
                     [Sample({}, failed)])  # fmt: skip


def inference(totals: Totals) -> Iterator[Family]:
    """What replicas counted."""
    rows = [(_served(served), counts) for served, counts in totals.items()]
    yield Family("steelyard_inference_requests_total", "counter", "Answered requests.", [
        Sample({**labels, "code": str(code)}, count)
        for labels, counts in rows for code in (*CODES, OTHER)
        if (count := counts.get(f"code_{code}", 0)) or code == CODES[0]
    ])  # fmt: skip
    bounds = [bound / 1_000_000 for bound in BOUNDS_US]
    yield Family("steelyard_inference_duration_seconds", "histogram",
                 "From a request's first byte in the replica to its answer.", [
        sample for labels, counts in rows for sample in histogram(
            labels, bounds, _buckets(counts), counts.get("duration_ns", 0) / SECOND_NS
        )
    ])  # fmt: skip
    yield Family("steelyard_inference_queue_seconds", "summary",
                 "The part of it before the inference began.", [
        sample for labels, counts in rows for sample in (
            Sample(labels, counts.get("queue_ns", 0) / SECOND_NS, "_sum"),
            Sample(labels, sum(_buckets(counts)), "_count"),
        )
    ])  # fmt: skip
    yield _counter("inferences_total", "Rows that went through the model.", rows, "rows")
    yield _counter("inference_batches_total", "Inferences; rows by batches is the batch size.",
                   rows, "batches")  # fmt: skip
    for name in CACHE:
        yield _counter(f"cache_{name}_total", f"Requests that were cache {name}.", rows,
                       f"cache_{name}")  # fmt: skip
    yield Family("steelyard_shadow_copies_total", "counter",
                 "Requests that were copied to a shadow version, by what became of the copy.", [
        Sample({**labels, "outcome": name}, counts.get(f"shadow_{name}", 0))
        for labels, counts in rows for name in SHADOW
    ])  # fmt: skip
    yield Family("steelyard_traces_total", "counter",
                 "Requests whose trace is kept, by what became of it towards the collector.", [
        Sample({**labels, "outcome": name}, counts.get(f"traces_{name}", 0))
        for labels, counts in rows for name in TRACES
    ])  # fmt: skip


def weights(routes: Iterable[Route]) -> Family:
    """The share of requests that each version is meant to get."""
    samples = []
    for route in routes:
        shares = {route.stable: route.stable_bp}
        shares |= {share.version: share.weight_bp for share in route.shares}
        samples += [Sample({"model": route.model, "version": str(version)}, share / BUCKETS)
                    for version, share in shares.items()]  # fmt: skip
    text = "Share of a model's requests that a version is meant to get."
    return Family("steelyard_rollout_weight_ratio", "gauge", text, samples)


def rollout_phases(phases: Mapping[str, str]) -> Family:
    """The phase of each model's newest rollout: 1 for the one it is in."""
    samples = [
        Sample({"model": model, "phase": phase}, int(phase == found))
        for model, found in phases.items() for phase in PHASES
    ]  # fmt: skip
    text = "Phase of a model's newest rollout: 1 for the one it is in."
    return Family("steelyard_rollout_phase", "gauge", text, samples)


def amounts(charged: Iterable[Amount]) -> Iterator[Family]:
    """What the ledger charged to versions, the idle time of their replicas included.

    ``version`` is empty for runs that never became one.
    """
    sums: dict[Unit, dict[tuple[str, ...], int]] = {unit: {} for unit in PER_UNIT}
    for one in charged:
        if one.unit in sums and one.role in ("consumer", "idle"):
            key = _owner(one)
            sums[one.unit][key] = sums[one.unit].get(key, 0) + one.amount
    for unit, (name, scale, text) in PER_UNIT.items():
        samples = [Sample(_labels(unit, key), amount / scale) for key, amount in sums[unit].items()]
        yield Family(f"steelyard_{name}", "counter", text, samples)


def budgets(lines: Iterable["BudgetLine"]) -> Iterator[Family]:
    """Budgets of money, which have one currency; those of energy and carbon are in the API."""
    money = [line for line in lines if line.measure == "cost_nano"]
    yield Family("steelyard_budget_limit", "gauge", "What may be spent in the present period.",
                 [Sample(_budget(line), line.limit / NANO) for line in money])  # fmt: skip
    yield Family("steelyard_budget_spent", "gauge", "What was spent in it so far.",
                 [Sample(_budget(line), line.spent / NANO)
                  for line in money if line.spent is not None])  # fmt: skip


def _served(served: Served) -> dict[str, str]:
    return {"model": served.model, "version": str(served.version), "variant": served.variant}


def _counter(
    name: str, text: str, rows: Iterable[tuple[Mapping[str, str], Counts]], slot: str
) -> Family:
    samples = [Sample(labels, counts.get(slot, 0)) for labels, counts in rows]
    return Family(f"steelyard_{name}", "counter", text, samples)


def _buckets(counts: Counts) -> list[int]:
    return [counts.get(slot, 0) for slot in BUCKET_SLOTS]


def _owner(one: Amount) -> tuple[str, ...]:
    version = "" if one.version is None else str(one.version)
    method = (one.tier or "unknown",) if one.unit == "mJ" else ()
    return one.model or "", version, one.phase or "", *method


def _labels(unit: Unit, owner: tuple[str, ...]) -> dict[str, str]:
    labels = dict(zip(("model", "version", "phase", "method"), owner, strict=False))
    return labels | ({"currency": "USD"} if unit == "nUSD" else {})


def _budget(line: "BudgetLine") -> dict[str, str]:
    scope = f"{line.scope_kind}/{line.scope}"
    return {"scope": scope, "period": line.period, "currency": "USD"}
