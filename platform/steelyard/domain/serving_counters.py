"""What a replica counts for monitoring: named whole numbers, which only grow and add up.

They are a view for dashboards and alarms. What is paid for and what was answered stand in the
ledger and the audit; nothing here is charged or decided on.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CODES = (200, 400, 401, 403, 404, 405, 413, 415, 429, 500, 503, 504)
"""The statuses with a counter of their own; any other one counts as ``other``."""
OTHER = "other"
BOUNDS_US = (
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
)  # fmt: skip
"""Upper bounds of the duration histogram's buckets, in microseconds; the last bucket has none."""
CACHE = ("hits", "misses")
SHADOW = ("sent", "failed", "dropped")
"""What became of a request that was to be copied to a shadow version."""
TRACES = ("sent", "failed", "dropped")
"""What became of a request whose caller keeps its trace, on the way to the collector."""

CODE_SLOTS = tuple(f"code_{code}" for code in (*CODES, OTHER))
BUCKET_SLOTS = tuple(f"bucket_{bound}" for bound in (*BOUNDS_US, "inf"))
SLOTS = (
    *CODE_SLOTS, *BUCKET_SLOTS, "duration_ns", "queue_ns", "rows", "batches",
    *(f"cache_{name}" for name in CACHE), *(f"shadow_{name}" for name in SHADOW),
    *(f"traces_{name}" for name in TRACES),
)  # fmt: skip
"""Every counter, in the order in which a replica's file holds them."""
_BOUNDS_NS = tuple(bound * 1_000 for bound in BOUNDS_US)
_FIRST_BUCKET = len(CODE_SLOTS)


def bucket_slot(duration_ns: int) -> int:
    """The place in ``SLOTS`` of the bucket that a duration falls into; bounds are inclusive.

    >>> SLOTS[bucket_slot(50_000_000)], SLOTS[bucket_slot(50_000_001)], SLOTS[bucket_slot(10**11)]
    ('bucket_50000', 'bucket_100000', 'bucket_inf')
    """
    return _FIRST_BUCKET + bisect_left(_BOUNDS_NS, duration_ns)


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """What is counted apart: a version by its model, number and variant."""

    model: str
    version: int
    variant: str


@dataclass(frozen=True, slots=True)
class ReplicaCounters:
    """The counters of one replica. ``boot`` names its life; the process may be gone by now."""

    boot: str
    served: Served
    pid: int
    counts: Mapping[str, int] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """All but the counts, as plain values."""
        served = self.served
        return {
            "boot": self.boot, "model": served.model, "version": served.version,
            "variant": served.variant, "pid": self.pid,
        }  # fmt: skip


def of_header(header: Mapping[str, Any], counts: Mapping[str, int]) -> ReplicaCounters:
    """The inverse of ``ReplicaCounters.header``."""
    served = Served(header["model"], header["version"], header["variant"])
    return ReplicaCounters(header["boot"], served, header["pid"], counts)


def summed(replicas: Iterable[ReplicaCounters]) -> dict[Served, dict[str, int]]:
    """The counters of each version over all of its replicas, living and gone.

    >>> one = ReplicaCounters("a", Served("m", 1, "fp32"), 7, {"rows": 2})
    >>> two = ReplicaCounters("b", Served("m", 1, "fp32"), 8, {"rows": 3})
    >>> summed([one, two])[one.served]["rows"]
    5
    """
    total: dict[Served, dict[str, int]] = {}
    for one in replicas:
        added(total.setdefault(one.served, {}), one.counts)
    return dict(sorted(total.items()))


def added(total: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add counts to a total, which is changed."""
    for name, count in counts.items():
        total[name] = total.get(name, 0) + count
