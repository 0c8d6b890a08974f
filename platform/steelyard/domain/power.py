"""Energy counters of a node: how far they went, and whose energy it was. Pure and exact.

Energy is whole microjoules here, because one watt is one microjoule a microsecond; the ledger's
millijoules are cut from running totals, so nothing is lost by rounding. A figure that is not
known is None and makes every sum that it belongs to None.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.allocation import largest_remainder, round_half_even
from steelyard.domain.metering import EnergyMethod

REST = "~rest"
"""The part of a node's energy that no registered process used: its own, idle time included."""
HIGHEST_W = 1_000
"""No processor package draws more: within range / HIGHEST_W a counter wraps at most once."""
TIERS: tuple[EnergyMethod, ...] = (
    "metered_wall", "counter_gpu", "counter_cpu", "sampled_power", "modelled_load", "nameplate",
    "unknown",
)  # fmt: skip
"""From the strongest evidence to none (accounting tiers 1 to 5, and 0)."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A cumulative energy counter as it was read.

    ``domain`` names what it counts (``package-0``, ``package-0/dram``, ``gpu:UUID``). It starts
    again at 0 after ``range_uj``; None: it never does, so running backwards is a reset.
    """

    domain: str
    method: EnergyMethod
    energy_uj: int
    range_uj: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters of a meter at one moment.

    ``holders`` maps each domain that belongs to whoever holds the device (a GPU) to those process
    ids and how much of it each used lately, in any common unit; None when that is not known. A
    domain without an entry is shared by CPU time.
    """

    counters: tuple[Counter, ...]
    holders: Mapping[str, Mapping[int, int | None]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A reading together with CPU time. ``at_us`` is a monotonic clock's.

    ``busy_us`` is what all processors of the node have worked since it started, ``cpu_us`` what
    each watched process has, by process id; ``cpus`` counts the processors.
    """

    at_us: int
    reading: Reading
    cpus: int
    busy_us: int
    cpu_us: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Share:
    """Energy of one interval that belongs to one owner; None exactly when ``unknown``."""

    energy_uj: int | None
    method: EnergyMethod


def weakest(methods: Iterable[EnergyMethod]) -> EnergyMethod:
    """The method that a sum of such figures may claim.

    >>> weakest(["counter_gpu", "sampled_power", "counter_cpu"])
    'sampled_power'
    """
    return max(methods, key=TIERS.index, default="unknown")


def growth_uj(before: Counter, after: Counter, elapsed_us: int) -> int | None:
    """What a counter counted in ``elapsed_us``, over at most one wrap.

    None when a counter that cannot wrap ran backwards (the device was reset), or when so much
    time passed that a counter may have wrapped more than once.

    >>> growth_uj(Counter("package-0", "counter_cpu", 90, 100),
    ...           Counter("package-0", "counter_cpu", 15, 100), 0)
    25
    """
    wraps_at = after.range_uj
    if wraps_at is not None and elapsed_us * HIGHEST_W >= wraps_at:
        return None
    if after.energy_uj >= before.energy_uj:
        return after.energy_uj - before.energy_uj
    return None if wraps_at is None else after.energy_uj + wraps_at - before.energy_uj


def sampled_uj(before_mw: int, after_mw: int, elapsed_us: int) -> Fraction:
    """Energy between two samples of power, in microjoules: the trapezoid under them.

    >>> sampled_uj(100_000, 200_000, 2_000_000)  # 150 W for two seconds are 300 J
    Fraction(300000000, 1)
    """
    return Fraction((before_mw + after_mw) * elapsed_us, 2_000)


def apportion(
    before: Snapshot, after: Snapshot, owners: Mapping[int, str], idle_w: Fraction
) -> dict[str, Share]:
    """Whose the energy between two snapshots was: every owner's share, and that of ``REST``.

    ``owners`` maps process ids to owners. Processors and memory: ``idle_w`` watts, less as the
    node gets busy, are the node's own; the remainder goes by CPU time, of which the node's other
    processes have theirs. A GPU's energy goes to its holder. The shares of a domain sum to what
    its counter counted.
    """
    elapsed_us = after.at_us - before.at_us
    first = {counter.domain: counter for counter in before.reading.counters}
    parts: dict[str, list[Share]] = {key: [] for key in (REST, *owners.values())}
    shared: list[tuple[int | None, EnergyMethod]] = []
    for counter in after.reading.counters:
        known = first.get(counter.domain)
        grown = None if known is None else growth_uj(known, counter, elapsed_us)
        pids = after.reading.holders.get(counter.domain)
        if pids is None:
            shared.append((grown, counter.method))
            continue
        for key, energy in _by_holder(grown, pids, owners).items():
            parts[key].append(_share(energy, counter.method))
    if shared:
        whole = _sum(grown for grown, _ in shared)
        method = weakest(method for _, method in shared)
        for key, energy in _by_cpu_time(whole, before, after, owners, idle_w).items():
            parts[key].append(_share(energy, method))
    return {key: _joined(shares) for key, shares in parts.items()}


def _by_cpu_time(
    whole_uj: int | None,
    before: Snapshot,
    after: Snapshot,
    owners: Mapping[int, str],
    idle_w: Fraction,
) -> dict[str, int | None]:
    keys = {REST, *owners.values()}
    if whole_uj is None:
        return dict.fromkeys(keys)
    used = dict.fromkeys(keys - {REST}, 0)
    for pid, owner in owners.items():
        since = before.cpu_us.get(pid)
        if since is not None and pid in after.cpu_us:  # a process starts to count at first sight
            used[owner] += max(0, after.cpu_us[pid] - since)
    busy_us = max(0, after.busy_us - before.busy_us)
    floor_uj = _idle_uj(whole_uj, after.at_us - before.at_us, busy_us, after.cpus, idle_w)
    weights = {**used, REST: max(0, busy_us - sum(used.values()))}
    if not any(weights.values()):
        return {**used, REST: whole_uj}
    parts = largest_remainder(whole_uj - floor_uj, weights)
    return {**parts, REST: parts[REST] + floor_uj}


def _idle_uj(whole_uj: int, elapsed_us: int, busy_us: int, cpus: int, idle_w: Fraction) -> int:
    """min(E, P_idle · t · (1 − u)): declared watts, because a residual would be a guess."""
    idle_us = max(Fraction(0), elapsed_us - Fraction(busy_us, cpus))
    return min(whole_uj, round_half_even(idle_w * idle_us))


def _by_holder(
    energy_uj: int | None, pids: Mapping[int, int | None], owners: Mapping[int, str]
) -> dict[str, int | None]:
    """A device's energy by who holds it; several by use. Use unknown: only the sum is known."""
    holders = {owners.get(pid, REST) for pid in pids}
    if energy_uj is None:
        return dict.fromkeys(holders | {REST})
    if len(holders) == 1:
        return {holders.pop(): energy_uj}
    if any(use is None for use in pids.values()):
        return {**dict.fromkeys(holders), REST: energy_uj}
    weights = dict.fromkeys(holders | {REST}, 0)
    for pid, use in pids.items():
        weights[owners.get(pid, REST)] += use or 0
    if not any(weights.values()):
        return {**weights, REST: energy_uj}
    return {**largest_remainder(energy_uj, weights)}


def _share(energy_uj: int | None, method: EnergyMethod) -> Share:
    return Share(energy_uj, "unknown" if energy_uj is None else method)


def _joined(shares: Iterable[Share]) -> Share:
    known = list(shares)
    energy = _sum(share.energy_uj for share in known) if known else None
    return _share(energy, weakest(share.method for share in known))


def _sum(energies: Iterable[int | None]) -> int | None:
    total = 0
    for energy in energies:
        if energy is None:
            return None
        total += energy
    return total
