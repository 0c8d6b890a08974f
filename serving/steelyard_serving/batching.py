"""When requests that wait for a model go together, and how many: a rule and what it has learned.

Natural batching comes first: whoever came while the last inference ran goes with the others, and
nobody waits for company that is not expected. A batch is cut so that two of it fit into the
model's latency target, because a request may come just after one has begun (Nexus, SOSP 2019,
section 4.1). Waiting for more pays only while the delay of all who wait costs less than the fixed
part of an inference, which one more in the batch saves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.serving_policy import ServingPolicy

FORGET = 0.97
"""What an inference's observation keeps of its weight with each one after it."""

MEMORY_NS = 250_000_000
"""Arrivals count for about this long."""

TICK_NS = 1_000_000
"""Event loops wait no shorter: a window below this would be one of this length."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits: its rows, since when, and until when its answer is of use.

    Times are of one monotonic clock, in nanoseconds; None is no deadline.
    """

    rows: int
    since_ns: int
    deadline_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """So many of those who wait go now, the first ones; or none before ``until_ns``."""

    count: int
    until_ns: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """What was seen of a model's load and speed; what is new counts more.

    An inference of n rows takes ``fixed_ns + n * row_ns``, by least squares. Until batches of
    different sizes were seen, all of it is taken to be the rows': batching has to prove itself.
    ``free_ns`` is when the last inference ended.
    """

    fixed_ns: float = 0.0
    row_ns: float = 0.0
    free_ns: int = 0
    rate: float = 0.0
    """Requests a nanosecond, as of ``arrived_ns``."""
    arrived_ns: int = 0
    sums: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """Of weights, rows, times, squared rows, and rows by times."""

    def predicted_ns(self, rows: int) -> float:
        """How long an inference of so many rows takes; 0 when none was seen."""
        return self.fixed_ns + rows * self.row_ns

    def gap_ns(self, now_ns: int) -> float:
        """The time to the next request, as far as the last ones tell."""
        rate = self.rate * math.exp((self.arrived_ns - now_ns) / MEMORY_NS)
        return 1 / rate if rate else math.inf


def seen_arrival(learned: Learned, now_ns: int) -> Learned:
    """With one more request."""
    kept = learned.rate * math.exp((learned.arrived_ns - now_ns) / MEMORY_NS)
    return replace(learned, rate=kept + 1 / MEMORY_NS, arrived_ns=now_ns)


def seen_inference(learned: Learned, rows: int, took_ns: int, ended_ns: int) -> Learned:
    """With one more inference."""
    seen = (1, rows, took_ns, rows * rows, rows * took_ns)
    pairs = zip(learned.sums, seen, strict=True)
    weight, n, t, nn, nt = (FORGET * old + new for old, new in pairs)
    spread = weight * nn - n * n
    # Sizes that hardly differ say nothing about the slope.
    slope = (weight * nt - n * t) / spread if spread > 0.01 * n * n else t / n
    row_ns = min(max(slope, 0.0), t / n)
    fixed_ns = (t - row_ns * n) / weight
    return replace(
        learned, fixed_ns=fixed_ns, row_ns=row_ns, free_ns=ended_ns,
        sums=(weight, n, t, nn, nt),
    )  # fmt: skip


def take(
    waiting: Sequence[Waiting], learned: Learned, policy: ServingPolicy, now_ns: int
) -> Decision:
    """What to do with requests that fit together, the oldest first, while the model is free.

    Whose deadline has passed must not be among them.
    """
    count, rows, due_ns = _fitting(waiting, learned, policy, now_ns)
    if count < len(waiting) or rows >= policy.batch_items:
        return Decision(count)
    gap_ns = learned.gap_ns(now_ns)
    if len(waiting) * gap_ns >= learned.fixed_ns or learned.fixed_ns < TICK_NS:
        return Decision(count)
    next_ns = learned.predicted_ns(rows + 1)
    last, first = waiting[-1].since_ns, waiting[0].since_ns
    until_ns = min(
        max(last, learned.free_ns) + max(2 * gap_ns, TICK_NS),
        max(first, learned.free_ns) + learned.fixed_ns,
        first + _target_ns(policy) - next_ns,
        due_ns - next_ns,
    )
    return Decision(count) if until_ns <= now_ns else Decision(0, int(until_ns))


def shares(total_ns: int, rows: Sequence[int]) -> list[int]:
    """The time of a shared inference by rows, to the last nanosecond.

    >>> shares(100, [1, 1, 1])
    [34, 33, 33]
    """
    if len(rows) == 1:
        return [total_ns]
    parts = largest_remainder(total_ns, {f"{n:09d}": one for n, one in enumerate(rows)})
    return list(parts.values())


def _fitting(
    waiting: Sequence[Waiting], learned: Learned, policy: ServingPolicy, now_ns: int
) -> tuple[int, int, float]:
    """How many fit into one inference, with how many rows, and the earliest deadline it meets.

    The first always goes. A deadline that would be missed anyway keeps nobody else out.
    """
    count, rows, due_ns = 0, 0, math.inf
    for one in waiting:
        total = rows + one.rows
        took_ns = learned.predicted_ns(total)
        over = total > policy.batch_items or 2 * took_ns > _target_ns(policy)
        if count and (over or now_ns + took_ns > due_ns):
            break
        count, rows = count + 1, total
        if one.deadline_ns is not None and now_ns + took_ns <= one.deadline_ns:
            due_ns = min(due_ns, one.deadline_ns)
    return count, rows, due_ns


def _target_ns(policy: ServingPolicy) -> int:
    return policy.batch_latency_ms * 1_000_000
