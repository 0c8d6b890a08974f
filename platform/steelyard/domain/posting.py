"""From measured windows to transfers: supply = busy + idle + overhead, to the last unit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.carbon import facility_overhead_mj, operational_ug
from steelyard.domain.cost import Price, cost_nano
from steelyard.domain.energy import LoadModel, window_energy
from steelyard.domain.ledger import Account, Transfer, Unit
from steelyard.domain.metering import LedgerPhase, Resource, SupplyWindow, UsageWindow

IDLE = "~idle"


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
    as_of_us: int


def consumer(usage: UsageWindow) -> Account:
    """The account that a usage window is charged to: a version, or a run until it has one."""
    if usage.version is None:
        path = f"model:{usage.model}:{usage.phase}:run/{usage.run_id}:{usage.activity}"
    else:
        path = f"model:{usage.model}/{usage.version}:{usage.phase}:{usage.activity}"
    return Account(path, "consumer", usage.phase, usage.model, usage.version, usage.activity,
                   usage.run_id if usage.version is None else None)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a resource worked for: a version, or a run that has none yet."""

    model: str
    version: int | None
    phase: LedgerPhase
    run_id: str | None


def idle_account(resource: Resource, owners: Collection[Owner]) -> Account:
    """Where unused time goes: the deployment or run it waited for.

    A resource that ever worked for a single owner belongs to it, and so does its idle time.
    """
    path = f"idle:{resource.resource_id.rsplit('/', 1)[0]}"
    if len(owners) != 1:
        return Account(path, "idle")
    owner = next(iter(owners))
    run_id = owner.run_id if owner.version is None else None
    return Account(path, "idle", owner.phase, owner.model, owner.version, run_id=run_id)


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
    accounts = {consumer(u).path: consumer(u) for u in usages}
    busy = _busy_us(resource, supply, usages)
    accounts[IDLE] = idle
    device_us = {**busy, IDLE: supply.reserved_us - sum(busy.values())}
    pool = Account(f"pool:{resource.resource_id}", "pool")
    source = Account(f"supply:{resource.resource_id}", "supply")

    def move(
        unit: Unit, total: int, parts: Mapping[str, int], price_id: str | None = None,
        coef_ids: tuple[str, ...] = (),
    ) -> list[Transfer]:  # fmt: skip
        into = [Transfer(unit, total, pool, source, price_id, coef_ids)]
        return into + [
            Transfer(unit, amount, accounts[key], pool, price_id, coef_ids)
            for key, amount in parts.items()
        ]

    transfers = move("device_us", supply.reserved_us, device_us)
    money = cost_nano(valuation.prices, resource.price_sku, supply.window_start_us,
                      supply.window_end_us, resource.device_count, valuation.as_of_us)  # fmt: skip
    if money is not None:
        split = largest_remainder(money[0], device_us)
        transfers += move("nUSD", money[0], split, price_id=money[1])
    energy = window_energy(supply, sum(busy.values()), valuation.load_model)
    if energy is None:
        return transfers
    joules = _energy_split(energy.energy_mj, energy.idle_floor_mj, busy)
    transfers += move("mJ", energy.energy_mj, joules, coef_ids=energy.coef_ids)
    if valuation.pue is not None:
        transfers += _overhead(valuation.pue, energy.energy_mj, pool, source)
    if valuation.intensity is not None:
        pue = valuation.pue.value if valuation.pue else Fraction(1)
        facility = energy.energy_mj + facility_overhead_mj(energy.energy_mj, pue)
        carbon = operational_ug(facility, valuation.intensity.value)
        cited = (*energy.coef_ids, valuation.intensity.coef_id)
        shares = joules if energy.energy_mj else device_us
        transfers += move("ugCO2e_loc", carbon, largest_remainder(carbon, shares), coef_ids=cited)
    return transfers


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


def _overhead(pue: Coefficient, energy_mj: int, pool: Account, source: Account) -> list[Transfer]:
    extra = facility_overhead_mj(energy_mj, pue.value)
    overhead = Account("overhead:pue", "overhead")
    cited = (pue.coef_id,)
    return [
        Transfer("mJ", extra, pool, source, coef_ids=cited),
        Transfer("mJ", extra, overhead, pool, coef_ids=cited),
    ]
