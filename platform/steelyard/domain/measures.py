"""What reports are made of: amounts of the roll-ups, folded into measures side by side.

Sides: training with and without the idle time of runs, serving, and the idle time of replicas.
The basis ``usage`` counts direct use only, ``allocation`` adds the idle time of whoever it
belongs to; a replica that several versions share has its idle time shared out by their direct
cost of the same day (as OpenCost shares it).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.energy import MEASURED
from steelyard.domain.ledger import Role, Unit
from steelyard.domain.metering import LedgerPhase

Basis = Literal["usage", "allocation"]
BASES: tuple[Basis, ...] = ("usage", "allocation")
TIERS: Mapping[str, str] = {
    "metered_wall": "wall meter ±2 %", "counter_gpu": "GPU counter ±10 %",
    "counter_cpu": "CPU counter ±10 %", "sampled_power": "sampled power ±35 %",
    "modelled_load": "load model ±50 %", "nameplate": "nameplate, an upper bound",
}  # fmt: skip
"""Methods in words, best first, with what they may be wrong by."""

FIELDS: Mapping[Unit, str] = {
    "device_us": "device_us", "nUSD": "cost_nano", "mJ": "energy_mj", "ugCO2e_loc": "carbon_ug",
    "ugCO2e_emb": "embodied_ug",
}  # fmt: skip
"""Ledger units and what they are called in documents."""


@dataclass(frozen=True, slots=True)
class Measures:
    """One side of the balance, in ledger units. None: not known.

    ``device_us`` device-microseconds, ``cost_nano`` nano-USD, ``energy_mj`` millijoules at the
    devices, ``carbon_ug`` micrograms CO2e (operational, location-based, the building included),
    ``embodied_ug`` micrograms CO2e of making the devices, ``flop`` exact FLOPs.
    """

    device_us: int | None = None
    cost_nano: int | None = None
    energy_mj: int | None = None
    carbon_ug: int | None = None
    embodied_ug: int | None = None
    flop: int | None = None

    def __add__(self, other: "Measures") -> "Measures":
        return Measures(**{f.name: plus(getattr(self, f.name), getattr(other, f.name))
                           for f in fields(self)})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum of roll-ups: who, in which role, how much of what, found how, on which day.

    ``day`` counts from 1970-01-01; None in a sum over days. ``tier`` is empty for what no
    energy method applies to.
    """

    model: str | None
    version: int | None
    phase: LedgerPhase | None
    role: Role
    unit: Unit
    tier: str
    amount: int
    day: int | None = None


@dataclass(frozen=True, slots=True)
class SharedIdle:
    """Idle time of a deployment that worked for several: on one day, in one unit and tier."""

    path: str
    day: int
    unit: Unit
    tier: str
    amount: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The two phases on one basis."""

    training: Measures
    inference: Measures


@dataclass(frozen=True, slots=True)
class Sides:
    """An account by phase and role. ``training`` includes ``training_idle``."""

    training: Measures
    training_idle: Measures
    serving: Measures
    idle: Measures

    def on(self, basis: Basis) -> Pair:
        """Training and inference on a basis; FLOPs are the same on both."""
        if basis == "allocation":
            return Pair(self.training, self.serving + self.idle)
        return Pair(less(self.training, self.training_idle), self.serving)


def sides(
    amounts: Iterable[Amount], training_flop: int | None = None, serving_flop: int | None = None
) -> Sides:
    """Fold the amounts of one account."""
    groups: dict[tuple[str, bool], list[Amount]] = defaultdict(list)
    for one in amounts:
        if one.phase is not None and one.role in ("consumer", "idle"):
            groups[one.phase, one.role == "idle"].append(one)
    waited = groups["training", True]
    return Sides(
        training=measures([*groups["training", False], *waited], training_flop),
        training_idle=measures(waited),
        serving=measures(groups["inference", False], serving_flop),
        idle=measures(groups["inference", True]),
    )


def measures(amounts: Iterable[Amount], flop: int | None = None) -> Measures:
    """Sums by unit; what has no amount is unknown."""
    sums: dict[str, int] = {}
    for one in amounts:
        name = FIELDS[one.unit]
        sums[name] = sums.get(name, 0) + one.amount
    return Measures(**sums, flop=flop)


def less(whole: Measures, part: Measures) -> Measures:
    """The rest of a whole; what is unknown of the whole stays unknown."""

    def minus(name: str) -> int | None:
        amount = getattr(whole, name)
        return None if amount is None else amount - (getattr(part, name) or 0)

    return Measures(**{f.name: minus(f.name) for f in fields(whole)})


def by_tier(amounts: Iterable[Amount]) -> dict[str, int]:
    """Millijoules by the method that found them."""
    sums: dict[str, int] = {}
    for one in amounts:
        if one.unit == "mJ" and one.role in ("consumer", "idle", "overhead"):
            sums[one.tier] = sums.get(one.tier, 0) + one.amount
    return dict(sorted(sums.items()))


def metered_share(energy_by_tier: Mapping[str, int]) -> float | None:
    """The part of the energy that was metered; None without any energy.

    >>> metered_share({"counter_cpu": 3, "modelled_load": 1})
    0.75
    """
    total = sum(energy_by_tier.values())
    metered = sum(mj for tier, mj in energy_by_tier.items() if tier in MEASURED)
    return metered / total if total else None


def tier_shares(energy_by_tier: Mapping[str, int]) -> dict[str, float]:
    """The part of the energy that each method found, best method first; empty without any.

    >>> tier_shares({"modelled_load": 1, "counter_cpu": 3})
    {'counter_cpu': 0.75, 'modelled_load': 0.25}
    """
    total = sum(energy_by_tier.values())
    order = [*TIERS, *sorted(energy_by_tier.keys() - TIERS.keys())]
    return {tier: energy_by_tier[tier] / total for tier in order
            if total and energy_by_tier.get(tier)}  # fmt: skip


Owned = tuple[str, int | None, LedgerPhase]
"""Whom a shared resource worked for: model, version, phase."""


Direct = Mapping[tuple[int, Unit], Mapping[Owned, int]]
"""What each did on a day, in a unit."""


def shared_out(
    idle: Iterable[SharedIdle], owners: Mapping[str, Collection[Owned]], direct: Direct
) -> list[Amount]:
    """What each owner carries of shared idle amounts, in proportion to its direct ones that day.

    ``owners`` are those of each path; a single one carries all. Of a day on which none of several
    did anything, nothing is shared out: it stays nobody's.
    """
    found: list[Amount] = []
    for part in idle:
        whose = owners.get(part.path, ())
        did = direct.get((part.day, part.unit), {})
        used = {who: did[who] for who in did if who in whose and did[who] > 0}
        shares = dict.fromkeys(whose, 1) if len(whose) == 1 else used
        if part.amount <= 0 or not shares:
            continue
        carried = largest_remainder(part.amount, {_name(who): n for who, n in shares.items()})
        for who in shares:
            if more := carried[_name(who)]:
                found.append(Amount(*who, "idle", part.unit, part.tier, more, part.day))
    return found


def plus(*amounts: int | None) -> int | None:
    """The sum of what is known; None when nothing is.

    >>> plus(1, None), plus(None, None), plus(0, None)
    (1, None, 0)
    """
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _name(who: Owned) -> str:
    model, version, phase = who
    return f"{model}/{version or 0}:{phase}"
