"""What one replica has inferred since it started, as Triton's statistics extension tells it.

Counted a request at a time in integers; nothing here is a rate or a mean. An answer from the cache
is a success without an inference, as Triton counts it.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from steelyard.domain.model_version import ModelVersion


class Counted(Protocol):
    """Where an answered request spent its time, in nanoseconds.

    ``busy_ns`` is its own slices and ``infer_ns`` of it its part of an inference of ``rows`` rows,
    ``read_ns`` what came before; the rest is writing. ``queue_ns`` is waiting and none of these.
    ``leads`` is true for one of the requests that share an inference. ``cached`` is None where
    there is no cache.
    """

    received_us: int
    items: int
    busy_ns: int
    read_ns: int
    infer_ns: int
    queue_ns: int
    lookup_ns: int
    rows: int
    leads: bool
    cached: bool | None


@dataclass(slots=True)
class _Batch:
    """The inferences of one size: how many, and how long their requests were in each stage."""

    executions: int = 0
    read_ns: int = 0
    infer_ns: int = 0
    write_ns: int = 0


@dataclass(slots=True)
class Statistics:
    """Counters of one version in one replica."""

    last_ms: int = 0
    rows: int = 0
    inferred: int = 0
    queue_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    hits: int = 0
    hit_ns: int = 0
    misses: int = 0
    miss_ns: int = 0
    batches: dict[int, _Batch] = field(default_factory=dict)

    def add(self, request: Counted, answered: bool) -> None:
        """Count a request that was answered or refused."""
        self.last_ms = request.received_us // 1_000
        batch = self.batches.get(request.rows)
        if batch is None:
            batch = self.batches[request.rows] = _Batch()
        batch.executions += request.leads
        if not answered:
            self.failed += 1
            self.failed_ns += request.busy_ns
            return
        self.queue_ns += request.queue_ns
        if request.cached:
            self.hits += 1
            self.hit_ns += request.busy_ns
            return
        if request.cached is not None:
            self.misses += 1
            self.miss_ns += request.lookup_ns
        self.inferred += 1
        self.rows += request.items
        batch.read_ns += request.read_ns
        batch.infer_ns += request.infer_ns
        batch.write_ns += request.busy_ns - request.read_ns - request.infer_ns

    def told(self, version: ModelVersion) -> dict[str, Any]:
        """The statistics answer."""
        batches = sorted((rows, one) for rows, one in self.batches.items() if one.executions)
        read, infer, write = (
            sum(getattr(one, name) for _, one in batches)
            for name in ("read_ns", "infer_ns", "write_ns")
        )
        success_ns = self.queue_ns + read + infer + write + self.hit_ns
        return {"model_stats": [{
            "name": version.model,
            "version": str(version.version),
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": sum(one.executions for _, one in batches),
            "inference_stats": {
                "success": _duration(self.inferred + self.hits, success_ns),
                "fail": _duration(self.failed, self.failed_ns),
                "queue": _duration(self.inferred + self.hits, self.queue_ns),
                "compute_input": _duration(self.inferred, read),
                "compute_infer": _duration(self.inferred, infer),
                "compute_output": _duration(self.inferred, write),
                "cache_hit": _duration(self.hits, self.hit_ns),
                "cache_miss": _duration(self.misses, self.miss_ns),
            },
            "batch_stats": [_batch(rows, one) for rows, one in batches],
        }]}  # fmt: skip


def _batch(rows: int, one: _Batch) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _duration(one.executions, one.read_ns),
        "compute_infer": _duration(one.executions, one.infer_ns),
        "compute_output": _duration(one.executions, one.write_ns),
    }


def _duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}
