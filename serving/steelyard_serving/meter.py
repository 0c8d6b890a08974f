"""What a replica used: counters in memory, closed into windows, spooled by a thread.

``add`` runs inside every request, so it adds numbers; every few requests it encodes their
records, because the thread would do that at the requests' cost, too, and later. A window is
closed every ``meter_interval_s``, when many records wait, and at shutdown. A process that is
killed loses the open window's attribution; its cost is booked by whoever notices the silence.
Energy is what the node's meter attributed to this process, unknown without one.
"""

import logging
import os
import threading
import time
from dataclasses import dataclass

from steelyard.bootstrap.counting import producer
from steelyard.bootstrap.power import energy_account
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_digest import KeyedDigest
from steelyard.domain.compute import computes_in
from steelyard.domain.facts import Fact
from steelyard.domain.metering import (
    Activity,
    Resource,
    ResourceEnd,
    SupplyWindow,
    UsageWindow,
)
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_serving.audit import Answered, record_of
from steelyard_serving.secret_files import audit_key

RECORDS_TO_FLUSH = 500
"""So few that a collector on the same cores is done with a segment in a few milliseconds."""
BYTES_TO_FLUSH = 16 * 2**20
"""Records may hold inputs and outputs, if the model's policy asks for them."""
BATCH = 25
"""Records encoded together: alone, each would find the processor's caches full of other work."""
LARGE_BYTES = 65_536
"""A body larger than this does not wait for others, so that a batch holds little memory."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What one activity did since the window opened; ``busy_ns`` sums execution intervals.

    ``cached`` items of ``cache_hits`` requests were answered without an inference.
    """

    requests: int = 0
    errors: int = 0
    items: int = 0
    cached: int = 0
    cache_hits: int = 0
    busy_ns: int = 0


class Meter:
    """The meter of one replica: one device, one slot, one version."""

    def __init__(self, settings: Settings, version: ModelVersion) -> None:
        self._version = version
        self._interval_s = settings.meter_interval_s
        self._producer = producer(settings, f"replica:{version.name}")
        self.resource_id = f"replica/{version.name}/{self._producer.boot_id}"
        # Wall time at the start plus a monotonic clock: windows join without gap or overlap.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._opened_us = self._now_us()
        self._cpu_ns = time.process_time_ns()
        self._energy = energy_account(settings, [os.getpid()])
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._counts: dict[Activity, Counts] = {}
        self._digest = KeyedDigest(audit_key(settings))
        self._form = self._producer.form(PredictionRecord, {
            "model": version.model, "version": version.version, "sha256": version.sha256,
            "resource_id": self.resource_id, "digest_method": self._digest.method,
        })  # fmt: skip
        self._answered: list[Answered] = []
        self._records: list[bytes] = []
        self._record_bytes = 0
        self._wake = threading.Event()
        self._stopped = False
        self._producer.write([self._resource(settings)])
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether windows are being closed; a replica without a meter must not serve."""
        return self._thread.is_alive()

    def add(
        self,
        activity: Activity,
        busy_ns: int,
        items: int = 0,
        requests: int = 0,
        error: bool = False,
        answered: Answered | None = None,
    ) -> None:
        """Count one execution, and keep its record until the next flush."""
        with self._lock:
            counts = self._counts.get(activity)
            if counts is None:
                counts = self._counts[activity] = Counts()
            counts.requests += requests
            counts.errors += error
            counts.items += items
            counts.busy_ns += busy_ns
            if answered is not None:
                if answered.outcome.cached:
                    counts.cached += items
                    counts.cache_hits += 1
                self._answered.append(answered)
                if _bytes_of(answered) > LARGE_BYTES or len(self._answered) == BATCH:
                    self._encode()

    def _encode(self) -> None:
        lines = [self._form.line(record_of(one, self._digest)) for one in self._answered]
        self._answered.clear()
        self._records += lines
        self._record_bytes += sum(map(len, lines))
        if len(self._records) >= RECORDS_TO_FLUSH or self._record_bytes >= BYTES_TO_FLUSH:
            self._wake.set()

    def flush(self) -> None:
        """Close the window and write it, with the records, as one durable segment."""
        with self._writing:
            self._producer.write(*self._close_window())

    def stop(self) -> None:
        """Write the last window and the end of the resource; repeating it does nothing."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5)
        with self._writing:
            facts, records = self._close_window()
            facts += [
                ResourceEnd(self.resource_id, self._opened_us),
                self._producer.boot_end(self._opened_us),
            ]
            self._producer.write(facts, records)
            self._energy.close()

    def _run(self) -> None:
        closes_s = time.monotonic() + self._interval_s
        while not self._stopped:
            self._wake.wait(max(0.0, closes_s - time.monotonic()))
            self._wake.clear()
            if self._stopped:
                return
            try:
                if time.monotonic() < closes_s:
                    self._write_records()
                else:
                    self.flush()
                    closes_s = time.monotonic() + self._interval_s
            except OSError:
                # A full disk ends the meter, and with it the replica's health.
                log.exception("the spool cannot be written")
                raise

    def _write_records(self) -> None:
        """Write the records so far as a segment of their own; the window goes on."""
        with self._writing:
            with self._lock:
                records = self._take_records()
            self._producer.write([], records)

    def _take_records(self) -> list[bytes]:
        """What is to be written; by who holds the lock."""
        self._encode()
        records, self._records, self._record_bytes = self._records, [], 0
        return records

    def _close_window(self) -> tuple[list[Fact], list[bytes]]:
        with self._lock:
            counts, self._counts = self._counts, {}
            records = self._take_records()
        start, end = self._opened_us, max(self._now_us(), self._opened_us + 1)
        cpu = time.process_time_ns()
        cpu_us, self._cpu_ns = (cpu - self._cpu_ns) // 1_000, cpu
        self._opened_us = end
        metered = self._energy.take(end - start)
        supply = SupplyWindow(
            self._producer.producer_id, self._producer.boot_id, self._producer.next_seq(),
            self.resource_id, start, end, reserved_us=end - start, cpu_us=cpu_us,
            energy_mj=metered.energy_mj, energy_method=metered.method,
            energy_boundary=metered.boundary,
        )  # fmt: skip
        usages = [self._usage(start, end, activity, one) for activity, one in counts.items()]
        return [supply, *usages], records

    def _usage(self, start_us: int, end_us: int, activity: Activity, counts: Counts) -> UsageWindow:
        version = self._version
        forward = version.flops.forward if version.flops else None
        return UsageWindow(
            self._producer.producer_id, self._producer.boot_id, self._producer.next_seq(),
            self.resource_id, start_us, end_us, version.model, version.version,
            "inference", activity,
            requests=counts.requests, errors=counts.errors, items=counts.items,
            cache_hits=counts.cache_hits, busy_ns=counts.busy_ns,
            flop=None if forward is None else forward * (counts.items - counts.cached),
            datatype=computes_in(version.flops),
        )  # fmt: skip

    def _resource(self, settings: Settings) -> Resource:
        return Resource(
            self.resource_id, "replica", settings.device_model, device_count=1, slots=1,
            price_sku=settings.price_sku, started_us=self._opened_us,
            region=settings.region or None,
        )  # fmt: skip

    def _now_us(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1_000


def _bytes_of(answered: Answered) -> int:
    return len(answered.body or b"") + len(answered.outcome.answer or b"")
