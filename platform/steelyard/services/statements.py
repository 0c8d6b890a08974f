"""Read models: what a model cost to train against what it costs to run.

Money, energy, carbon and device time are balances of ledger entries; requests, items and FLOPs
are sums of usage windows. A measure that was not posted is None: unknown, not 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, Literal

from steelyard.domain.break_even import DAY_S, BreakEven, PayBack, break_even, pay_back

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.adapters.sql.ledger import Balance, LedgerStore
    from steelyard.ports.clock import Clock

Basis = Literal["usage", "allocation"]


@dataclass(frozen=True, slots=True)
class Measures:
    """One side of the balance, in ledger units. None: not known.

    ``device_us`` device-microseconds, ``cost_nano`` nano-USD, ``energy_mj`` millijoules,
    ``carbon_ug`` micrograms CO2e (operational, location-based), ``flop`` exact FLOPs.
    """

    device_us: int | None = None
    cost_nano: int | None = None
    energy_mj: int | None = None
    carbon_ug: int | None = None
    flop: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was asked of a version: requests, failed ones, items, and the measured rate a day."""

    requests: int = 0
    errors: int = 0
    items: int = 0
    requests_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class VersionStatement:
    """One version. ``version`` None collects runs that never became a version (failed, open).

    ``serving`` is direct use, ``idle`` the reserved time its replicas waited.
    """

    version: int | None
    variant: str | None
    relation: str | None
    parent: int | None
    run_id: str | None
    training: Measures
    serving: Measures
    idle: Measures
    traffic: Traffic
    break_even: BreakEven
    pay_back: PayBack | None


@dataclass(frozen=True, slots=True)
class Point:
    """Cumulative cost at a moment, nano-USD; inference with its idle time."""

    at_us: int
    training_nano: int
    inference_nano: int


@dataclass(frozen=True, slots=True)
class ModelStatement:
    """A model's whole account at one moment, and the ledger position it was read at.

    ``energy_estimated``: no figure of energy or carbon in it was metered. ``basis`` of the
    break-even: ``allocation`` counts idle time, ``usage`` does not.
    """

    model: str
    as_of_us: int
    ledger_seq: int
    ledger_hash: str
    versions: tuple[VersionStatement, ...]
    training: Measures
    serving: Measures
    idle: Measures
    traffic: Traffic
    break_even: Mapping[Basis, BreakEven]
    series: tuple[Point, ...]
    currency: str = "USD"
    energy_estimated: bool = True


class Statements:
    """Reports over the ledger."""

    def __init__(
        self, ledger: "LedgerStore", facts: "FactStore", catalog: "CatalogStore", clock: "Clock"
    ) -> None:
        self._ledger = ledger
        self._facts = facts
        self._catalog = catalog
        self._clock = clock

    def models(self) -> list[str]:
        """Every model that the ledger or the registry's copy knows."""
        posted = {b.account.model for b in self._ledger.balances() if b.account.model}
        return sorted(posted | {str(v["model"]) for v in self._catalog.versions()})

    def model(self, model: str) -> ModelStatement:
        """The statement of one model; empty when nothing was posted yet."""
        balances = self._ledger.balances(model)
        usage = self._facts.usage_sums(model)
        known = {int(v["version"]): v for v in self._catalog.versions(model)}
        numbers: list[int | None] = [*sorted({*known, *_versions(balances)})]
        if any(b.account.version is None and b.amount for b in balances):
            numbers.append(None)
        versions = tuple(
            self._version(number, known.get(number or 0), balances, usage) for number in numbers
        )
        head = self._ledger.head()
        total = {role: _measures(balances, usage, role) for role in ("training", "serving", "idle")}
        traffic = _traffic(usage)
        return ModelStatement(
            model=model, as_of_us=self._clock.now_us(), ledger_seq=head.seq if head else 0,
            ledger_hash=head.hash if head else "",
            versions=tuple(_with_pay_back(v, versions) for v in versions),
            training=total["training"], serving=total["serving"], idle=total["idle"],
            traffic=traffic, break_even=_break_even(total, traffic),
            series=_series(self._ledger.movements(model, "nUSD")),
        )  # fmt: skip

    def _version(
        self, number: int | None, row: Mapping[str, Any] | None, balances: "Sequence[Balance]",
        usage: Sequence[Mapping[str, Any]],
    ) -> VersionStatement:  # fmt: skip
        run = row["run_id"] if row else None
        mine = [b for b in balances if b.account.version == number]
        used = [u for u in usage if u["version"] == number or (u["run_id"] == run and run)]
        sides = {role: _measures(mine, used, role) for role in ("training", "serving", "idle")}
        traffic = _traffic(used)
        return VersionStatement(
            version=number, variant=row["variant"] if row else None,
            relation=row["relation"] if row else None, parent=row["parent"] if row else None,
            run_id=run, training=sides["training"], serving=sides["serving"], idle=sides["idle"],
            traffic=traffic, break_even=_break_even(sides, traffic)["allocation"], pay_back=None,
        )  # fmt: skip


def _versions(balances: "Iterable[Balance]") -> set[int]:
    return {b.account.version for b in balances if b.account.version is not None and b.amount}


def _measures(
    balances: "Sequence[Balance]", usage: Sequence[Mapping[str, Any]], side: str
) -> Measures:
    """Training (its idle time included), serving without idle, or the idle time of serving."""

    def belongs(phase: str | None, role: str) -> bool:
        if side == "training":
            return phase == "training"
        return phase == "inference" and role == ("idle" if side == "idle" else "consumer")

    sums: dict[str, int] = {}
    for b in balances:
        if belongs(b.account.phase, b.account.role):
            sums[b.unit] = sums.get(b.unit, 0) + b.amount
    flop: int | None = None
    if side != "idle":
        phase = "training" if side == "training" else "inference"
        counted = [u["flop"] for u in usage if u["phase"] == phase and u["flop"] is not None]
        flop = sum(counted) if counted else None
    return Measures(
        device_us=sums.get("device_us"), cost_nano=sums.get("nUSD"), energy_mj=sums.get("mJ"),
        carbon_ug=sums.get("ugCO2e_loc"), flop=flop,
    )  # fmt: skip


def _traffic(usage: Iterable[Mapping[str, Any]]) -> Traffic:
    rows = [u for u in usage if u["phase"] == "inference" and u["activity"] == "serve"]
    requests = sum(u["requests"] for u in rows)
    span_us = max((u["end_us"] for u in rows), default=0) - min(
        (u["start_us"] for u in rows), default=0
    )
    rate = requests * DAY_S * 1_000_000 / span_us if requests and span_us > 0 else None
    return Traffic(requests, sum(u["errors"] for u in rows), sum(u["items"] for u in rows), rate)


def _break_even(sides: Mapping[str, Measures], traffic: Traffic) -> dict[Basis, BreakEven]:
    training = sides["training"].cost_nano or 0
    direct = sides["serving"].cost_nano or 0
    full = direct + (sides["idle"].cost_nano or 0)
    rate = traffic.requests_per_day
    return {
        "usage": break_even(training, direct, traffic.requests, rate),
        "allocation": break_even(training, full, traffic.requests, rate),
    }


def _with_pay_back(
    statement: VersionStatement, versions: Sequence[VersionStatement]
) -> VersionStatement:
    parent = next((v for v in versions if v.version == statement.parent), None)
    if parent is None or statement.version is None or statement.training.cost_nano is None:
        return statement
    result = pay_back(statement.training.cost_nano, _served(parent), _served(statement))
    return replace(statement, pay_back=result)


def _served(statement: VersionStatement) -> tuple[int, int]:
    return statement.serving.cost_nano or 0, statement.traffic.requests


def _series(movements: Sequence[tuple[int, str, str, int]]) -> tuple[Point, ...]:
    def add(total: tuple[int, int], move: tuple[int, str, str, int]) -> tuple[int, int]:
        training, inference = total
        if move[1] == "training":
            return training + move[3], inference
        return training, inference + (move[3] if move[1] == "inference" else 0)

    totals = list(accumulate(movements, add, initial=(0, 0)))[1:]
    points = [Point(move[0], *total) for move, total in zip(movements, totals, strict=True)]
    return tuple(list(group)[-1] for _, group in groupby(points, key=lambda p: p.at_us))
