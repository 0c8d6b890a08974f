"""What one replica has inferred since it started, as Triton's statistics extension tells it.

Counted a request at a time in integers; nothing here is a rate or a mean.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from steelyard.domain.model_version import ModelVersion


class Stages(NamedTuple):
    """Where one inference spent its time, in nanoseconds.

    ``queue`` is the wait for the thread that infers, ``read`` parsing, ``infer`` the model alone,
    ``write`` guarding and encoding the answer.
    """

    queue_ns: int
    read_ns: int
    infer_ns: int
    write_ns: int

    @property
    def busy_ns(self) -> int:
        """What held the device's thread: all but the wait for it."""
        return self.read_ns + self.infer_ns + self.write_ns


@dataclass(slots=True)
class _Sum:
    """How often, and how long in all."""

    count: int = 0
    queue_ns: int = 0
    read_ns: int = 0
    infer_ns: int = 0
    write_ns: int = 0

    def add(self, stages: Stages) -> None:
        self.count += 1
        self.queue_ns += stages.queue_ns
        self.read_ns += stages.read_ns
        self.infer_ns += stages.infer_ns
        self.write_ns += stages.write_ns


@dataclass(slots=True)
class Statistics:
    """Counters of one version in one replica."""

    last_ms: int = 0
    failed: int = 0
    failed_ns: int = 0
    batches: dict[int, _Sum] = field(default_factory=dict)

    def add(self, at_us: int, items: int, busy_ns: int, stages: Stages | None) -> None:
        """Count a request of so many items; without stages it got no answer but a refusal."""
        self.last_ms = at_us // 1_000
        if stages is None:
            self.failed += 1
            self.failed_ns += busy_ns
            return
        batch = self.batches.get(items)
        if batch is None:
            batch = self.batches[items] = _Sum()
        batch.add(stages)

    def told(self, version: ModelVersion) -> dict[str, Any]:
        """The statistics answer. There is no cache, so its counts are truly 0."""
        sums = sorted(self.batches.items())
        count = sum(one.count for _, one in sums)
        queue, read, infer, write = (
            sum(getattr(one, name) for _, one in sums)
            for name in ("queue_ns", "read_ns", "infer_ns", "write_ns")
        )
        return {"model_stats": [{
            "name": version.model,
            "version": str(version.version),
            "last_inference": self.last_ms,
            "inference_count": sum(items * one.count for items, one in sums),
            "execution_count": count,
            "inference_stats": {
                "success": _duration(count, queue + read + infer + write),
                "fail": _duration(self.failed, self.failed_ns),
                "queue": _duration(count, queue),
                "compute_input": _duration(count, read),
                "compute_infer": _duration(count, infer),
                "compute_output": _duration(count, write),
                "cache_hit": _duration(0, 0),
                "cache_miss": _duration(0, 0),
            },
            "batch_stats": [_batch(items, one) for items, one in sums],
        }]}  # fmt: skip


def _batch(items: int, one: _Sum) -> dict[str, Any]:
    return {
        "batch_size": items,
        "compute_input": _duration(one.count, one.read_ns),
        "compute_infer": _duration(one.count, one.infer_ns),
        "compute_output": _duration(one.count, one.write_ns),
    }


def _duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}
