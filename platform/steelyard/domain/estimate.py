"""What a training run will take, before it starts: from the pace of past attempts.

An attempt takes a while to start, then works at a pace, then ends. Each past one predicts the
time of the planned work; the median of these is the estimate, the least and the greatest bound
it. Money, energy and carbon follow by the very rule that posts windows, with today's rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from statistics import median

from steelyard.domain.allocation import round_half_even
from steelyard.domain.budget import BudgetState
from steelyard.domain.energy import MEASURED
from steelyard.domain.ledger import Account, Unit
from steelyard.domain.measures import FIELDS, Measures
from steelyard.domain.metering import EnergyMethod, Resource, SupplyWindow, UsageWindow
from steelyard.domain.posting import Valuation, consumer, window_transfers
from steelyard.domain.quantities import SECOND_US

RUN = "planned"


@dataclass(frozen=True, slots=True)
class PastWindow:
    """A closed window of a past run: wall time, and what was done and drawn in it.

    ``attempt`` is None for what the driver did afterwards: export, evaluation. ``flop`` is None
    where it was not known, ``cpu_us`` and ``energy_mj`` where they were not measured.
    """

    run_id: str
    attempt: int | None
    devices: int
    wall_us: int
    items: int
    flop: int | None
    cpu_us: int | None = None
    energy_mj: int | None = None
    energy_method: EnergyMethod = "unknown"


@dataclass(frozen=True, slots=True)
class Pace:
    """Work per device-second once under way, and the wall time that an attempt takes beside it."""

    per_device_s: Fraction
    overhead_us: int = 0

    def wall_us(self, work: int, devices: int) -> int:
        """Wall time of so much work on so many devices."""
        return self.overhead_us + round_half_even(work * SECOND_US / (self.per_device_s * devices))


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the typical and the greatest of what was predicted."""

    low: int
    typical: int
    high: int


@dataclass(frozen=True, slots=True)
class Draw:
    """How hard past attempts drove their devices: watts by a meter, else the part of CPU time.

    With neither, a device is taken as fully loaded, which is an upper bound.
    """

    watts: Fraction | None = None
    method: EnergyMethod = "unknown"
    cpu_share: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Priced:
    """Device time with what follows from it, and the rows of the catalog that were used."""

    measures: Measures
    cited: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tier: EnergyMethod = "unknown"


def paces(windows: Sequence[PastWindow], *, by_flop: bool) -> list[Pace]:
    """The pace of every past attempt that did some work; ``by_flop`` else by items."""
    attempts = (list(group) for _, group in groupby(windows, lambda w: (w.run_id, w.attempt)))
    found = (_pace(one, by_flop) for one in attempts if one[0].attempt is not None)
    return [one for one in found if one is not None]


def _pace(windows: Sequence[PastWindow], by_flop: bool) -> Pace | None:
    """The pace after the first report: what comes before it holds the start.

    With a single report start and work cannot be told apart, so all of it counts as work.
    """
    work = [w.flop if by_flop else w.items for w in windows]
    worked = [n for n, amount in enumerate(work) if amount]
    if not worked:
        return None
    first, last = worked[0], worked[-1]
    steady = windows[first + 1 : last + 1] or windows
    done = sum(work[n] or 0 for n in (range(first + 1, last + 1) if last > first else worked))
    wall = sum(w.wall_us for w in steady)
    devices = windows[0].devices
    pace = Pace(Fraction(done * SECOND_US, wall * devices))
    lost = None in work  # the attempt failed: what it did after its last report is not known
    if last == first or lost:
        return pace
    whole = sum(amount or 0 for amount in work)
    taken = sum(w.wall_us for w in windows)
    return Pace(pace.per_device_s, max(0, taken - pace.wall_us(whole, devices)))


def predicted(work: int, devices: int, seen: Sequence[Pace]) -> Spread | None:
    """The wall time of so much work, by every pace; None when there is none.

    >>> predicted(600, 2, [Pace(Fraction(100)), Pace(Fraction(50), 1_000_000)])
    Spread(low=3000000, typical=5000000, high=7000000)
    """
    times = sorted(one.wall_us(work, devices) for one in seen)
    return Spread(times[0], int(median(times)), times[-1]) if times else None


def afterwards(windows: Sequence[PastWindow]) -> Spread | None:
    """The wall time that export and evaluation took; None when no run came that far."""
    own = [w for w in windows if w.attempt is None]
    times = sorted(
        sum(w.wall_us for w in group) for _, group in groupby(own, lambda w: w.run_id)
    )  # fmt: skip
    return Spread(times[0], int(median(times)), times[-1]) if times else None


def draw(windows: Sequence[PastWindow]) -> Draw:
    """What the devices of past attempts drew, or how much of their time they computed."""
    own = [w for w in windows if w.attempt is not None]
    metered = [w for w in own if w.energy_mj is not None and w.energy_method in MEASURED]
    timed = [w for w in own if w.cpu_us is not None]
    if metered and len(metered) == len(own):
        spent = Fraction(1000 * sum(w.energy_mj or 0 for w in metered), _device_us(metered))
        return Draw(spent, metered[0].energy_method)
    if not timed:
        return Draw()
    share = Fraction(sum(w.cpu_us or 0 for w in timed), _device_us(timed))
    return Draw(cpu_share=min(Fraction(1), share))


def _device_us(windows: Sequence[PastWindow]) -> int:
    return sum(w.wall_us * w.devices for w in windows)


def priced(resource: Resource, wall_us: int, valuation: Valuation, drawn: Draw) -> Priced:
    """What reserving ``resource`` for ``wall_us`` from its start will be charged.

    The rule that posts windows says it, so an estimate and a charge differ by their time only.
    """
    if wall_us <= 0:
        return Priced(Measures())
    start, reserved = resource.started_us, wall_us * resource.device_count
    energy, cpu = None, None
    if drawn.watts is not None:
        energy = round_half_even(drawn.watts * reserved / 1000)
    elif drawn.cpu_share is not None:
        cpu = round_half_even(drawn.cpu_share * reserved)
    supply = SupplyWindow(
        RUN, RUN, 1, resource.resource_id, start, start + wall_us, reserved, cpu_us=cpu,
        energy_mj=energy, energy_method="unknown" if energy is None else drawn.method,
    )  # fmt: skip
    usage = UsageWindow(
        RUN, RUN, 2, resource.resource_id, start, start + wall_us, RUN, None, "training", "train",
        RUN, 1, busy_ns=wall_us * 1_000,
    )  # fmt: skip
    payer = consumer(usage).path
    moved = window_transfers(resource, supply, [usage], valuation, Account(f"idle:{RUN}", "idle"))
    own = [one for one in moved if one.debit.path == payer]
    amounts: dict[Unit, int] = {}
    for one in own:
        amounts[one.unit] = amounts.get(one.unit, 0) + one.amount
    cited = {
        FIELDS[one.unit]: tuple(sorted({*one.coef_ids, *([one.price_id] if one.price_id else [])}))
        for one in own
        if one.unit != "device_us"
    }
    tiers: list[EnergyMethod] = [one.tier for one in own if one.unit == "mJ" and one.tier]
    known = {FIELDS[unit]: amount for unit, amount in amounts.items()}
    return Priced(Measures(**known), cited, tiers[0] if tiers else "unknown")


@dataclass(frozen=True, slots=True)
class Afterwards:
    """How a budget will stand when the run has been paid; the sentence says by how much."""

    state: BudgetState
    reason: str


def budget_after(
    limit: int, warn_at: Fraction, spent: int | None, expected: int | None, amount: int | None
) -> Afterwards | None:
    """Whether a run of ``amount`` makes a budget warn or breaks it; None where that is unknown.

    All in the measure's ledger unit. ``expected`` is the forecast without the run.

    >>> budget_after(100, Fraction(4, 5), 70, None, 15)
    Afterwards(state='warn', reason='85 % of the limit would be spent')
    """
    if amount is None or spent is None:
        return None
    after = spent + amount
    share = f"{float(Fraction(100 * after, limit)):.4g} % of the limit would be spent"
    if after > limit:
        return Afterwards("exceeded", share)
    if expected is not None and expected + amount > limit:
        ahead = float(Fraction(100 * (expected + amount), limit))
        return Afterwards("will_exceed", f"{ahead:.4g} % of the limit is expected with the run")
    return Afterwards("warn" if after >= warn_at * limit else "ok", share)
