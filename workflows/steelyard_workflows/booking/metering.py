"""Measured facts of the training side: what was reserved, when, and what it did.

Reserved is busy here: a worker group's CPUs belong to the run from the moment it is started
until it is gone, whether or not a worker waits for another. Failed and cancelled attempts are
booked like the others. ``stopwatch`` books work that runs inside the driver. Energy is what the
node's meter attributed to the processes; without one it is unknown, and the ledger estimates it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.bootstrap.counting import producer
from steelyard.bootstrap.power import energy_account
from steelyard.domain.compute import computes_in
from steelyard.domain.energy_account import UNKNOWN
from steelyard.domain.metering import (
    Activity,
    Outcome,
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)
from steelyard.domain.model_version import FlopsProfile
from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.adapters.power.board import EnergyAccount
    from steelyard.adapters.spool import Producer


def now_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Charge:
    """Who pays, and for which devices: the same for every window of a run."""

    run_id: str
    model: str
    device_count: int
    device_model: str
    price_sku: str
    region: str | None = None
    team: str | None = None


def charge_for(
    settings: Settings, run_id: str, model: str, device_count: int, team: str | None
) -> Charge:
    """The charge of a run on the devices that the settings declare."""
    return Charge(run_id, model, device_count, settings.device_model, settings.price_sku,
                  settings.region or None, team)  # fmt: skip


@dataclass
class Work:
    """What was done in a window: ``flop`` is exact or None, ``cpu_us`` is process CPU or None.

    ``datatype`` is what most of it was computed in; None when not known.
    """

    items: int = 0
    flop: int | None = None
    cpu_us: int | None = None
    datatype: str | None = None

    def count(self, items: int, profile: FlopsProfile | None) -> None:
        """Say which answers were computed; FLOPs stay None when those of one are not known."""
        forward = profile.forward if profile else None
        self.items = items
        self.flop = None if forward is None else forward * items
        self.datatype = computes_in(profile)


class Booking:
    """One reserved resource from its start to its end, in closed windows without gaps."""

    def __init__(
        self,
        writer: "Producer",
        charge: Charge,
        resource_id: str,
        started_us: int,
        attempt: int | None = None,
        energy: "EnergyAccount | None" = None,
    ) -> None:
        self._writer = writer
        self._energy = energy
        self._charge = charge
        self._resource_id = resource_id
        self._attempt = attempt
        self.started_us = started_us
        self.booked_until_us = started_us
        writer.write([
            Resource(resource_id, "train_worker", charge.device_model, charge.device_count, 1,
                     charge.price_sku, started_us, charge.region, charge.team)
        ])  # fmt: skip

    def meter(self, energy: "EnergyAccount") -> None:
        """The processes that work on this resource exist: book their energy from now on."""
        self._energy = energy

    def skip_to(self, at_us: int) -> None:
        """Leave a gap: nothing was reserved until ``at_us``."""
        if self._energy is not None:
            self._energy.skip()
        self.booked_until_us = max(self.booked_until_us, at_us)

    def window(self, activity: Activity, until_us: int, work: Work) -> SupplyWindow | None:
        """Book everything since the last window; a clock that stood still books nothing.

        What was booked is the answer.
        """
        start, wall_us = self.booked_until_us, until_us - self.booked_until_us
        if wall_us <= 0:
            return None
        supply, usage = self._facts(activity, start, until_us, wall_us, work)
        self._writer.write([supply, usage])
        self.booked_until_us = until_us
        return supply

    def _facts(
        self, activity: Activity, start: int, end: int, wall_us: int, work: Work
    ) -> tuple[SupplyWindow, UsageWindow]:  # fmt: skip
        who, charge = self._writer, self._charge
        metered = UNKNOWN if self._energy is None else self._energy.take(wall_us)
        supply = SupplyWindow(
            who.producer_id, who.boot_id, who.next_seq(), self._resource_id, start, end,
            reserved_us=wall_us * charge.device_count, cpu_us=work.cpu_us,
            energy_mj=metered.energy_mj, energy_method=metered.method,
            energy_boundary=metered.boundary,
        )  # fmt: skip
        usage = UsageWindow(
            who.producer_id, who.boot_id, who.next_seq(), self._resource_id, start, end,
            charge.model, None, "training", activity, charge.run_id, self._attempt,
            items=work.items, busy_ns=wall_us * 1_000, flop=work.flop, datatype=work.datatype,
        )  # fmt: skip
        return supply, usage

    def end(self, ended_us: int, outcome: Outcome | None = None) -> None:
        """Give the resource back; with an outcome, the run's attempt ends with it."""
        facts: list[ResourceEnd | RunAttempt] = [ResourceEnd(self._resource_id, ended_us)]
        if outcome is not None:
            facts.append(RunAttempt(self._charge.run_id, self._attempt or 1, self._charge.model,
                                    outcome, self.started_us, ended_us))  # fmt: skip
        self._writer.write(facts)
        if self._energy is not None:
            self._energy.close()


class Stopwatch:
    """Books activities that run in this process, on one device, one after the other."""

    def __init__(self, booking: Booking) -> None:
        self._booking = booking

    @contextmanager
    def measure(self, activity: Activity) -> Iterator[Work]:
        """Book the block's wall and CPU time; the block fills in items and FLOPs."""
        work = Work()
        self._booking.skip_to(now_us())
        cpu_ns = time.process_time_ns()
        try:
            yield work
        finally:
            work.cpu_us = (time.process_time_ns() - cpu_ns) // 1_000
            self._booking.window(activity, now_us(), work)


@contextmanager
def stopwatch(
    settings: Settings, charge: Charge, resource_id: str, *, is_attempt: bool
) -> Iterator[Stopwatch]:
    """A resource for in-process work. ``is_attempt``: the work is the run's only attempt.

    The outcome is ok, failed when the block raises, cancelled on Ctrl-C.
    """
    writer = producer(settings, f"driver:{charge.run_id}")
    attempt = 1 if is_attempt else None
    energy = energy_account(settings, [os.getpid()])
    booking = Booking(writer, charge, resource_id, now_us(), attempt, energy)
    outcome: Outcome = "failed"
    try:
        yield Stopwatch(booking)
        outcome = "ok"
    except KeyboardInterrupt:
        outcome = "cancelled"
        raise
    finally:
        ended = max(now_us(), booking.booked_until_us)
        booking.end(ended, outcome if is_attempt else None)
        writer.write([writer.boot_end(ended)])
