"""The rule of batching, what it learns, and how a shared inference is paid for."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.serving_policy import ServingPolicy
from steelyard_serving.batching import (
    MEMORY_NS,
    Decision,
    Learned,
    Waiting,
    seen_arrival,
    seen_inference,
    shares,
    take,
)

MS = 1_000_000
NOW = 1_000 * MS
POLICY = ServingPolicy(batch_latency_ms=20, batch_items=16)
QUIET = Learned(fixed_ns=4 * MS, row_ns=1 * MS)
"""An inference of n rows takes 4 + n ms; nobody comes."""


def busy(gap_ms: float, free_ms: float = 0.0) -> Learned:
    """The same model, free for so long, when a request comes in every so many milliseconds."""
    free_ns = NOW - int(free_ms * MS)
    return replace(QUIET, rate=1 / (gap_ms * MS), arrived_ns=NOW, free_ns=free_ns)


def ones(count: int, age_ms: float = 0.0) -> list[Waiting]:
    """Requests of one row that came together."""
    return [Waiting(1, NOW - int(age_ms * MS))] * count


def due(rows: int, in_ms: float) -> Waiting:
    """A request that just came, with a deadline."""
    return Waiting(rows, NOW, NOW + int(in_ms * MS))


@pytest.mark.parametrize(
    ("waiting", "learned", "count"),
    [
        pytest.param(ones(1), QUIET, 1, id="idle: nobody waits"),
        pytest.param(ones(5), QUIET, 5, id="who is there goes together"),
        pytest.param(ones(9), QUIET, 6, id="twice 4 + 6 ms fill the 20 ms"),
        pytest.param(ones(9), Learned(), 9, id="nothing is known of the model"),
        pytest.param(ones(20), Learned(), 16, id="no more rows than the policy says"),
        pytest.param([Waiting(40, NOW), *ones(2)], QUIET, 1, id="a large request goes alone"),
        pytest.param(ones(2, 50), QUIET, 2, id="being late is no reason to be slow"),
        pytest.param(ones(1), busy(5), 1, id="the next one comes too late to save anything"),
        pytest.param(ones(4), busy(1.1), 4, id="so many wait that their delay costs more"),
        pytest.param(ones(1), replace(busy(0.2), fixed_ns=0.5 * MS), 1, id="little to save"),
        pytest.param(ones(1, 4), busy(0.2, 4), 1, id="the window is over"),
        pytest.param(ones(1, 17), busy(0.2), 1, id="no time left within the target"),
        pytest.param([due(1, 6)], busy(0.2), 1, id="no time left until the deadline"),
        pytest.param([due(1, 6), *ones(3)], QUIET, 2, id="company must not cost a deadline"),
        pytest.param([*ones(2), due(1, 6.5), *ones(3)], QUIET, 6, id="one that is missed anyway"),
        pytest.param([*ones(2), due(1, 7.5), *ones(3)], QUIET, 3, id="one that is met by a cut"),
    ],
)
def test_how_many_go_now(waiting: list[Waiting], learned: Learned, count: int) -> None:
    """Natural batches first, cut to the latency target and to deadlines."""
    assert take(waiting, learned, POLICY, NOW) == Decision(count)


@pytest.mark.parametrize(
    ("waiting", "learned", "until_ms"),
    [
        pytest.param(ones(1), busy(0.2), 1.0, id="the shortest wait of an event loop"),
        pytest.param(ones(1), busy(0.8), 1.6, id="twice the expected time to the next"),
        pytest.param(ones(1, 0.5), busy(0.8, 0.2), 1.4, id="counted from when it could have run"),
        pytest.param(ones(1, 3.5), busy(1.9, 3.2), 0.6, id="no longer than the saving"),
        pytest.param([due(1, 7)], busy(0.8), 1.0, id="no longer than a deadline allows"),
        pytest.param(ones(1, 13), busy(0.8), 1.0, id="no longer than the target allows"),
    ],
)
def test_how_long_waiting_pays(waiting: list[Waiting], learned: Learned, until_ms: float) -> None:
    """A window only while requests come faster than an inference's fixed part is worth."""
    decision = take(waiting, learned, POLICY, NOW)
    assert decision.count == 0
    assert decision.until_ns == pytest.approx(NOW + until_ms * MS, abs=1)


def test_a_wait_ends() -> None:
    """At the moment that the rule named, it lets them go, if nobody came."""
    waiting, learned = ones(1), busy(0.2)
    decision = take(waiting, learned, POLICY, NOW)
    assert take(waiting, learned, POLICY, decision.until_ns) == Decision(1)


@given(
    st.lists(st.builds(
        Waiting, st.integers(1, 40), st.integers(NOW - 50 * MS, NOW),
        st.none() | st.integers(NOW + 1, NOW + 50 * MS),
    ), min_size=1, max_size=64),
    st.builds(busy, st.floats(0.01, 100), st.floats(0, 50)),
    st.integers(1, 100), st.integers(1, 64),
)  # fmt: skip
def test_somebody_goes_or_time_is_named(
    waiting: list[Waiting], learned: Learned, target_ms: int, items: int
) -> None:
    """Whatever waits: the first go, within the policy's bounds, or all wait for a later moment."""
    waiting = sorted(waiting, key=lambda one: one.since_ns)
    policy = ServingPolicy(batch_latency_ms=target_ms, batch_items=items)
    decision = take(waiting, learned, policy, NOW)
    gone = waiting[: decision.count]
    if not gone:
        assert NOW < decision.until_ns <= NOW + learned.fixed_ns
    if len(gone) > 1:
        rows = sum(one.rows for one in gone)
        assert rows <= items
        assert 2 * learned.predicted_ns(rows) <= target_ms * MS


def test_the_cost_of_an_inference_is_learned() -> None:
    """From batches of several sizes; a new speed replaces the old one."""
    learned = Learned()
    for rows in (1, 2, 8, 4, 1, 16) * 5:
        learned = seen_inference(learned, rows, 3 * MS + rows * MS // 2, NOW)
    assert learned.fixed_ns == pytest.approx(3 * MS, rel=1e-6)
    assert learned.row_ns == pytest.approx(MS / 2, rel=1e-6)
    for rows in (1, 2, 8, 4, 1, 16) * 60:
        learned = seen_inference(learned, rows, 6 * MS + rows * MS, NOW)
    assert learned.predicted_ns(10) == pytest.approx(16 * MS, rel=0.01)


def test_batching_has_to_prove_itself() -> None:
    """As long as all batches had one size, nothing is taken to be saved by a larger one."""
    learned = Learned()
    for _ in range(20):
        learned = seen_inference(learned, 4, 8 * MS, NOW)
    assert learned.fixed_ns == pytest.approx(0, abs=1)
    assert learned.predicted_ns(8) == pytest.approx(16 * MS)


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(1, 10**10)), min_size=1, max_size=50))
def test_what_is_learned_is_a_cost(seen: list[tuple[int, int]]) -> None:
    """Whatever was measured, neither part is negative, and more rows never take less time."""
    learned = Learned()
    for rows, took_ns in seen:
        learned = seen_inference(learned, rows, took_ns, NOW)
    assert learned.row_ns >= 0
    assert learned.fixed_ns >= -1e-6 * learned.predicted_ns(1)


def test_the_load_is_learned_and_forgotten() -> None:
    """A steady stream's gap is found; without requests the next one is expected ever later."""
    learned, now_ns = Learned(), NOW
    assert math.isinf(learned.gap_ns(NOW))
    for _ in range(2_000):
        now_ns += MS
        learned = seen_arrival(learned, now_ns)
    assert learned.gap_ns(now_ns) == pytest.approx(MS, rel=0.01)
    assert learned.gap_ns(now_ns + 10 * MEMORY_NS) > 1_000 * MS


@given(st.integers(0, 10**12), st.lists(st.integers(1, 4096), min_size=1, max_size=64))
def test_a_shared_inference_is_paid_to_the_nanosecond(total_ns: int, rows: list[int]) -> None:
    """The parts sum to the whole, and each is within one of what its rows come to."""
    parts = shares(total_ns, rows)
    assert sum(parts) == total_ns
    for part, own in zip(parts, rows, strict=True):
        assert abs(part * sum(rows) - total_ns * own) < sum(rows)
