"""What a replica counts for monitoring, while it answers.

``observe`` runs inside every request and so only adds numbers in mapped memory
(``steelyard.domain.serving_counters`` names them, the platform's ``/metrics`` tells them).
"""

import threading
import uuid
from typing import Literal

from steelyard.bootstrap.counting import counter_file
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.serving_counters import (
    CODES,
    OTHER,
    SHADOW,
    SLOTS,
    TRACES,
    Served,
    bucket_slot,
)
from steelyard.settings import Settings

_CODE_SLOT = {code: SLOTS.index(f"code_{code}") for code in CODES}
_OTHER_CODE = SLOTS.index(f"code_{OTHER}")
_DURATION, _QUEUE = SLOTS.index("duration_ns"), SLOTS.index("queue_ns")
_ROWS, _BATCHES = SLOTS.index("rows"), SLOTS.index("batches")
_CACHE = {"hit": SLOTS.index("cache_hits"), "miss": SLOTS.index("cache_misses")}
_SHADOW = {name: SLOTS.index(f"shadow_{name}") for name in SHADOW}
_TRACES = {name: SLOTS.index(f"traces_{name}") for name in TRACES}


class Metrics:
    """The counters of one replica. Every method may be called by any thread, and never waits."""

    def __init__(self, settings: Settings, version: ModelVersion) -> None:
        served = Served(version.model, version.version, version.variant)
        self._file = counter_file(settings, uuid.uuid4().hex, served)
        self._counts = self._file.counts
        self._lock = threading.Lock()

    def observe(
        self,
        status: int,
        duration_ns: int,
        queue_ns: int = 0,
        cache: Literal["hit", "miss"] | None = None,
    ) -> None:
        """Count one answer, refusals included: its status as the client sees it, and its time.

        ``duration_ns`` is from the request's first byte here to the answer, by a monotonic clock;
        ``queue_ns`` the part of it before the inference began. ``cache`` is None where there is
        no cache. A probe of ours is no request: it is not counted.
        """
        counts = self._counts
        with self._lock:
            counts[_CODE_SLOT.get(status, _OTHER_CODE)] += 1
            counts[bucket_slot(duration_ns)] += 1
            counts[_DURATION] += duration_ns
            if queue_ns:
                counts[_QUEUE] += queue_ns
            if cache is not None:
                counts[_CACHE[cache]] += 1

    def executed(self, rows: int) -> None:
        """Count one inference of so many rows, whether one request's or a batch's."""
        with self._lock:
            self._counts[_BATCHES] += 1
            self._counts[_ROWS] += rows

    def shadowed(self, outcome: Literal["sent", "failed", "dropped"]) -> None:
        """Count what became of one copy for a shadow version."""
        with self._lock:
            self._counts[_SHADOW[outcome]] += 1

    def traced(self, outcome: Literal["sent", "failed", "dropped"], count: int) -> None:
        """Count what became of traces on their way to the collector."""
        with self._lock:
            self._counts[_TRACES[outcome]] += count
