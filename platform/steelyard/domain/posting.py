"""From measured windows to transfers: supply = busy + idle + overhead, to the last unit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain import accounts
from steelyard.domain.allocation import largest_remainder, round_half_even
from steelyard.domain.carbon import facility_overhead_mj, operational_ug
from steelyard.domain.cost import Price, charges
from steelyard.domain.embodied import embodied_g
from steelyard.domain.energy import LoadModel, WindowEnergy, window_energy
from steelyard.domain.ledger import Account, Transfer, Unit
from steelyard.domain.metering import EnergyMethod, LedgerPhase, Resource, SupplyWindow, UsageWindow
from steelyard.domain.quantities import DeviceTime

IDLE = "~idle"
OVERHEAD = Account("overhead:pue", "overhead")


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A cited constant: an exact value and the row it came from."""

    coef_id: str
    value: Fraction


@dataclass(frozen=True, slots=True)
class Valuation:
    """What turns device time into money, energy and carbon. None means: not known."""

    prices: Sequence[Price]
    load_model: LoadModel | None
    intensity: Coefficient | None
    pue: Coefficient | None
    embodied_kg: Coefficient | None
    lifespan_h: Coefficient | None
    as_of_us: int


def consumer(usage: UsageWindow) -> Account:
    """The account that a usage window is charged to: a version, or a run until it has one."""
    return accounts.consumer(
        usage.phase, usage.model, usage.version, usage.activity, usage.run_id
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a resource worked for: a version, or a run that has none yet."""

    model: str
    version: int | None
    phase: LedgerPhase
    run_id: str | None


def idle_account(resource: Resource, owners: Collection[Owner]) -> Account:
    """Where unused time goes: to the version or run it waited for, else to its deployment.

    A resource that ever worked for a single owner belongs to it, and so does its idle time.
    """
    if len(owners) != 1:
        return Account(f"idle:{resource.resource_id.rsplit('/', 1)[0]}", "idle")
    owner = next(iter(owners))
    return accounts.owned_idle(owner.phase, owner.model, owner.version, owner.run_id)


def window_transfers(
    resource: Resource,
    supply: SupplyWindow,
    usages: Sequence[UsageWindow],
    valuation: Valuation,
    idle: Account,
) -> list[Transfer]:
    """All transfers of one supply window, in every unit that is known.

    Busy time is clamped to the reservation (device time × slots); the rest is idle. Money follows
    time. Energy: the idle devices' floor is idle's, the rest follows busy time. Carbon follows
    energy. A unit without a price, a model or a grid is not posted: unknown is not 0.
    """
    busy = _busy_us(resource, supply, usages)
    accounts = {**{consumer(u).path: consumer(u) for u in usages}, IDLE: idle}
    device_us = {**busy, IDLE: supply.reserved_us - sum(busy.values())}
    pool = Account(f"pool:{resource.resource_id}", "pool")
    flow = _Flow(Account(f"supply:{resource.resource_id}", "supply"), pool, accounts)
    moved = flow.move("device_us", supply.reserved_us, device_us)
    for charge in charges(valuation.prices, resource.price_sku, supply.window_start_us,
                          supply.window_end_us, resource.device_count,
                          valuation.as_of_us) or ():  # fmt: skip
        parts = largest_remainder(charge.amount_nano, device_us)
        moved += flow.move("nUSD", charge.amount_nano, parts, price_id=charge.price_id)
    moved += _embodied(flow, valuation, supply.reserved_us, device_us)
    energy = window_energy(supply, sum(busy.values()), valuation.load_model)
    if energy is None:
        return moved
    joules = _energy_split(energy.energy_mj, energy.idle_floor_mj, busy)
    moved += flow.move("mJ", energy.energy_mj, joules, energy.coef_ids, tier=energy.method)
    if valuation.pue is not None:
        extra = facility_overhead_mj(energy.energy_mj, valuation.pue.value)
        accounts[OVERHEAD.path] = OVERHEAD
        cited = (*energy.coef_ids, valuation.pue.coef_id)
        moved += flow.move("mJ", extra, {OVERHEAD.path: extra}, cited, tier=energy.method)
    return moved + _operational(flow, valuation, energy, joules if energy.energy_mj else device_us)


@dataclass(frozen=True, slots=True)
class _Flow:
    """Where a window's amounts come from, through which pool, and to whom."""

    source: Account
    pool: Account
    accounts: Mapping[str, Account]

    def move(
        self, unit: Unit, total: int, parts: Mapping[str, int], coef_ids: tuple[str, ...] = (),
        price_id: str | None = None, tier: EnergyMethod | None = None,
    ) -> list[Transfer]:  # fmt: skip
        """Into the pool, and out of it again in parts."""
        into = Transfer(unit, total, self.pool, self.source, price_id, coef_ids, tier)
        return [into] + [
            Transfer(unit, amount, self.accounts[key], self.pool, price_id, coef_ids, tier)
            for key, amount in parts.items()
        ]


def _embodied(
    flow: _Flow, valuation: Valuation, reserved_us: int, shares: Mapping[str, int]
) -> list[Transfer]:
    if valuation.embodied_kg is None or valuation.lifespan_h is None:
        return []
    kg, life = valuation.embodied_kg.value, valuation.lifespan_h.value
    made = round_half_even(embodied_g(kg, life, DeviceTime(reserved_us)) * 10**6)
    cited = (valuation.embodied_kg.coef_id, valuation.lifespan_h.coef_id)
    return flow.move("ugCO2e_emb", made, largest_remainder(made, shares), cited)


def _operational(
    flow: _Flow, valuation: Valuation, energy: WindowEnergy, shares: Mapping[str, int]
) -> list[Transfer]:
    if valuation.intensity is None:
        return []
    pue = valuation.pue
    facility = energy.energy_mj
    if pue is not None:
        facility += facility_overhead_mj(energy.energy_mj, pue.value)
    carbon = operational_ug(facility, valuation.intensity.value)
    cited = (*energy.coef_ids, *((pue.coef_id,) if pue else ()), valuation.intensity.coef_id)
    parts = largest_remainder(carbon, shares)
    return flow.move("ugCO2e_loc", carbon, parts, cited, tier=energy.method)


def _busy_us(
    resource: Resource, supply: SupplyWindow, usages: Sequence[UsageWindow]
) -> dict[str, int]:
    busy: dict[str, int] = {}
    for usage in usages:
        path = consumer(usage).path
        share = usage.busy_ns * resource.device_count // (1_000 * resource.slots)
        busy[path] = busy.get(path, 0) + share
    if sum(busy.values()) > supply.reserved_us:
        return largest_remainder(supply.reserved_us, busy)
    return busy


def _energy_split(total_mj: int, floor_mj: int, busy: Mapping[str, int]) -> dict[str, int]:
    if not any(busy.values()):
        return {**dict.fromkeys(busy, 0), IDLE: total_mj}
    return {**largest_remainder(total_mj - floor_mj, busy), IDLE: floor_mj}
