"""Charges: what the books hold for one account, day and price, from sums of their entries.

A charge that still waits in its own month is the net of what was posted and taken back. Once the
month is closed nothing nets any more: what comes later stands beside it, each way by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.ledger import Account, Unit
from steelyard.domain.metering import EnergyMethod, ResourceKind

DAY_US = 86_400_000_000
WHOLE = 10**12
"""Shares of a split charge are parts of this: twelve decimals."""
_METHODS = get_args(EnergyMethod)
_QUANTITY_SCALE = 10**18


@dataclass(frozen=True, slots=True)
class Selection:
    """Which charges: of a booked month, of days (both inclusive, of the charge), of a model."""

    period_id: str | None = None
    first_day: int | None = None
    last_day: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """The month that an entry is booked in."""

    period_id: str
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What was reserved: the replicas of a deployment, the workers of a run, a reservation."""

    name: str
    kind: ResourceKind
    region: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """Entries of one day and account in one unit, one way, summed.

    ``amount`` is negative when they take something back. ``origin`` is None when the other side
    is no reserved resource but an account like this one: then cost was moved.
    """

    period: BillingPeriod
    day: int
    origin: Origin | None
    account: Account
    unit: Unit
    amount: int
    first_seq: int
    last_seq: int
    last_hash: str
    price_id: str | None = None
    tier: EnergyMethod | None = None

    @property
    def correction(self) -> bool:
        """Booked in a later month than it was used in, because that one was closed."""
        return self.day * DAY_US < self.period.start_us


@dataclass(frozen=True, slots=True)
class Split:
    """Which part of a shared resource's charge this is: ``share`` of ``WHOLE``."""

    origin_id: str
    origin_nano: int
    share: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One account's cost of one day under one price, with what was measured beside it.

    Nano-USD, device-microseconds, millijoules, micrograms; None is unknown, not 0. ``tier`` is
    the weakest method among those that the energy was found by. The entries behind it lie in
    ``first_seq``..``last_seq``; ``last_hash`` is the chain's hash at the last.
    """

    period: BillingPeriod
    day: int
    origin: Origin | None
    account: Account
    price_id: str | None
    cost_nano: int
    device_us: int | None
    energy_mj: int | None
    carbon_ug: int | None
    embodied_ug: int | None
    tier: EnergyMethod | None
    first_seq: int
    last_seq: int
    last_hash: str
    correction: bool
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class DayCharges:
    """The charges of one day, and what was used in it without a cost, by unit."""

    charges: tuple[Charge, ...]
    without_cost: Mapping[Unit, int]


class _Lot(NamedTuple):
    """What is netted: the same account on the same origin; corrections each way by itself."""

    period_id: str
    day: int
    origin: Origin | None
    path: str
    way: int


def day_charges(movements: Iterable[Movement], unit_prices: Mapping[str, int]) -> DayCharges:
    """Net and join the movements of one booked month and day into charges.

    ``unit_prices`` are nano-USD per device-hour. Where a day has several prices, device time,
    energy and carbon follow the device time that each price was paid for, to the last unit.
    """
    lots: dict[_Lot, list[Movement]] = {}
    for m in movements:
        way = (1 if m.amount > 0 else -1) if m.correction else 0
        lots.setdefault(_Lot(m.period.period_id, m.day, m.origin, m.account.path, way), []).append(
            m
        )
    charges: list[Charge] = []
    without_cost: dict[Unit, int] = {}
    for lot in sorted(lots, key=lambda k: (k.origin is None, str(k.origin), k.path, k.way)):
        found = _lot_charges(lots[lot], unit_prices)
        charges += found
        if not found:
            for unit, amount in _sums(lots[lot]).items():
                without_cost[unit] = without_cost.get(unit, 0) + amount
    return DayCharges(tuple(_with_splits(charges)), {u: a for u, a in without_cost.items() if a})


def _lot_charges(lot: Sequence[Movement], unit_prices: Mapping[str, int]) -> list[Charge]:
    costs: dict[str, int] = {}
    for m in lot:
        if m.unit == "nUSD":
            costs[m.price_id or ""] = costs.get(m.price_id or "", 0) + m.amount
    costs = {price_id: cost for price_id, cost in sorted(costs.items()) if cost}
    weights = {p: abs(c) * _QUANTITY_SCALE // (unit_prices.get(p) or 1) for p, c in costs.items()}
    beside = [m for m in lot if m.unit != "nUSD"]
    parts = {unit: _parts(total, weights) for unit, total in _sums(beside).items()}
    tiers = {m.tier for m in beside if m.unit == "mJ" and m.tier}
    charges = []
    for price_id, cost in costs.items():
        behind = [m for m in lot if m.unit != "nUSD" or (m.price_id or "") == price_id]
        last = max(behind, key=lambda m: m.last_seq)
        mine = {unit: amounts[price_id] for unit, amounts in parts.items()}
        charges.append(Charge(
            last.period, last.day, last.origin, last.account, price_id or None, cost,
            mine.get("device_us"), mine.get("mJ"), mine.get("ugCO2e_loc"), mine.get("ugCO2e_emb"),
            max(tiers, key=_METHODS.index, default=None),
            min(m.first_seq for m in behind), last.last_seq, last.last_hash, last.correction,
        ))  # fmt: skip
    return charges


def _sums(movements: Iterable[Movement]) -> dict[Unit, int]:
    sums: dict[Unit, int] = {}
    for m in movements:
        sums[m.unit] = sums.get(m.unit, 0) + m.amount
    return sums


def _parts(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    if not weights:
        return {}
    sign = -1 if total < 0 else 1
    return {key: sign * part for key, part in largest_remainder(abs(total), weights).items()}


def _with_splits(charges: Sequence[Charge]) -> list[Charge]:
    """Say of charges on one resource that worked for several what share of it each is."""
    groups: dict[tuple[object, ...], list[int]] = {}
    owners: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
    for n, c in enumerate(charges):
        if c.origin is not None:
            whole = (c.period.period_id, c.day, c.origin, c.cost_nano > 0)
            groups.setdefault((*whole, c.price_id), []).append(n)
            owner = (c.account.model, c.account.version, c.account.run_id)
            owners.setdefault(whole, set()).add(owner)
    found = list(charges)
    for key, members in groups.items():
        if len(owners[key[:-1]]) < 2:
            continue
        total = sum(charges[n].cost_nano for n in members)
        shares = largest_remainder(
            WHOLE, {charges[n].account.path: abs(charges[n].cost_nano) for n in members}
        )
        for n in members:
            share = shares[charges[n].account.path]
            found[n] = replace(charges[n], split=Split(_origin_id(charges[n]), total, share))
    return found


def _origin_id(charge: Charge) -> str:
    name = charge.origin.name if charge.origin else ""
    way = "reversed" if charge.cost_nano < 0 else "charged"
    return f"{name}@{charge.day}/{charge.period.period_id}/{charge.price_id}/{way}"
