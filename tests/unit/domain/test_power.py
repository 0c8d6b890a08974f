"""Counters of a node and whose energy they counted."""

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.power import (
    REST,
    Counter,
    Reading,
    Share,
    Snapshot,
    apportion,
    growth_uj,
    sampled_uj,
)

RANGE = 262_143_328_850
"""max_energy_range_uj of a Xeon's package."""
SECOND = 1_000_000
NOT_HELD: Mapping[str, Mapping[int, int | None]] = {}


def cpu(energy_uj: int, domain: str = "package-0") -> Counter:
    """A package's counter as RAPL shows it."""
    return Counter(domain, "counter_cpu", energy_uj, RANGE)


def gpu(energy_uj: int) -> Counter:
    """A GPU's counter as NVML shows it."""
    return Counter("gpu:A", "counter_gpu", energy_uj)


def at(
    seconds: float,
    *counters: Counter,
    busy_s: float = 0.0,
    cpu_s: Mapping[int, float] | None = None,
    holders: Mapping[str, Mapping[int, int | None]] = NOT_HELD,
) -> Snapshot:
    """What a node with two processors showed after some seconds."""
    used = {pid: int(s * SECOND) for pid, s in (cpu_s or {}).items()}
    return Snapshot(
        int(seconds * SECOND), Reading(counters, holders), 2, int(busy_s * SECOND), used
    )


def shares(
    before: Snapshot, after: Snapshot, owners: Mapping[int, str], idle_w: float = 0.0
) -> dict[str, int | None]:
    """The shares in microjoules."""
    result = apportion(before, after, owners, Fraction(str(idle_w)))
    return {key: share.energy_uj for key, share in result.items()}


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [(10, 25, 15), (10, 10, 0), (RANGE - 5, 7, 12), (RANGE, 0, 0)],
)
def test_a_processors_counter_starts_again_at_its_range(
    before: int, after: int, grown: int
) -> None:
    """RAPL wraps at max_energy_range_uj; the energy over the wrap is not lost."""
    assert growth_uj(cpu(before), cpu(after), SECOND) == grown


def test_a_gpu_counter_that_runs_backwards_was_reset() -> None:
    """NVML's counter never wraps: after a driver reload the energy between is unknown, not 0."""
    assert growth_uj(gpu(900), gpu(3), SECOND) is None
    assert growth_uj(gpu(900), gpu(900), SECOND) == 0


def test_a_gap_in_which_a_counter_may_have_wrapped_twice_is_unknown() -> None:
    """262 kJ last four minutes at 1 kW; after five nobody knows how often it went round."""
    assert growth_uj(cpu(10), cpu(25), 240 * SECOND) == 15
    assert growth_uj(cpu(10), cpu(25), 300 * SECOND) is None


def test_sampled_power_is_the_area_under_the_samples() -> None:
    """70 W, then 130 W half a second later: 50 J."""
    assert sampled_uj(70_000, 130_000, 500_000) == 50 * 1_000_000


def test_energy_follows_cpu_time_and_the_node_keeps_what_others_used() -> None:
    """A node's 40 J: one process had 1 s of CPU time, one 0.5 s, everything else 0.5 s."""
    before = at(0, cpu(0), cpu_s={1: 5.0, 2: 3.0}, busy_s=100)
    after = at(1, cpu(40 * SECOND), cpu_s={1: 6.0, 2: 3.5}, busy_s=102)
    assert shares(before, after, {1: "a", 2: "b"}) == {
        "a": 20_000_000, "b": 10_000_000, REST: 10_000_000,
    }  # fmt: skip


def test_packages_and_memory_add_up_before_they_are_shared() -> None:
    """Two packages and the memory of one are one node."""
    before = at(0, cpu(0), cpu(0, "package-1"), cpu(0, "package-0/dram"), cpu_s={1: 0})
    after = at(1, cpu(30), cpu(20, "package-1"), cpu(10, "package-0/dram"), cpu_s={1: 1}, busy_s=1)
    assert shares(before, after, {1: "a"}) == {"a": 60, REST: 0}


def test_several_processes_of_one_producer_are_one_share() -> None:
    """The workers of an attempt book together."""
    before = at(0, cpu(0), cpu_s={1: 0, 2: 0})
    after = at(1, cpu(100), cpu_s={1: 0.25, 2: 0.25}, busy_s=1)
    assert shares(before, after, {1: "run", 2: "run"}) == {"run": 50, REST: 50}


def test_a_sleeper_is_charged_nothing() -> None:
    """A registered process without CPU time gets no energy, though nobody else is registered."""
    before = at(0, cpu(0), cpu_s={1: 7})
    assert shares(before, at(1, cpu(100), cpu_s={1: 7}, busy_s=0.2), {1: "a"}) == {
        "a": 0, REST: 100,
    }  # fmt: skip
    assert shares(before, at(1, cpu(100), cpu_s={1: 7}), {1: "a"}) == {"a": 0, REST: 100}


def test_declared_idle_watts_are_the_nodes_own() -> None:
    """10 W idle, two processors half busy for a second: 5 J of 25 J are nobody's."""
    before = at(0, cpu(0), cpu_s={1: 0})
    after = at(1, cpu(25 * SECOND), cpu_s={1: 1}, busy_s=1)
    assert shares(before, after, {1: "a"}, idle_w=10) == {"a": 20_000_000, REST: 5_000_000}


def test_more_idle_watts_than_were_drawn_leave_no_negative_share() -> None:
    """A declaration that is too high takes all there is and not more."""
    before, after = at(0, cpu(0), cpu_s={1: 0}), at(1, cpu(25), cpu_s={1: 0.5}, busy_s=0.5)
    assert shares(before, after, {1: "a"}, idle_w=500) == {"a": 0, REST: 25}


def test_a_process_counts_from_when_it_is_first_seen() -> None:
    """What it used before it was watched is the node's."""
    before, after = at(0, cpu(0)), at(1, cpu(100), cpu_s={1: 50}, busy_s=1)
    assert shares(before, after, {1: "a"}) == {"a": 0, REST: 100}


def test_a_gpu_belongs_to_whoever_holds_it() -> None:
    """One holder takes all of it, idle or not; the processors are shared as always."""
    held = {"gpu:A": {1: None}}
    before = at(0, cpu(0), gpu(0), cpu_s={1: 0, 2: 0}, holders=held)
    after = at(1, cpu(100), gpu(900), cpu_s={1: 0.5, 2: 0.5}, busy_s=1, holders=held)
    assert shares(before, after, {1: "a", 2: "b"}) == {"a": 950, "b": 50, REST: 0}


def test_a_gpu_that_nobody_registered_holds_is_the_nodes() -> None:
    """A stranger's process, or none."""
    for pids in ({99: None}, {}):
        before, after = at(0, gpu(0)), at(1, gpu(900), holders={"gpu:A": pids})
        assert shares(before, after, {1: "a"}) == {"a": None, REST: 900}


def test_a_shared_gpu_is_split_by_use() -> None:
    """Multiprocessor use 60 and 20 and a stranger's 20."""
    before = at(0, gpu(0))
    after = at(1, gpu(1_000), holders={"gpu:A": {1: 60, 2: 20, 99: 20}})
    assert shares(before, after, {1: "a", 2: "b"}) == {"a": 600, "b": 200, REST: 200}
    idle = at(1, gpu(1_000), holders={"gpu:A": {1: 0, 2: 0}})
    assert shares(before, idle, {1: "a", 2: "b"}) == {"a": 0, "b": 0, REST: 1_000}


def test_a_shared_gpu_without_figures_of_use_is_known_only_as_a_whole() -> None:
    """Under MIG the device does not say who used it: the shares are unknown, not equal."""
    after = at(1, gpu(1_000), holders={"gpu:A": {1: None, 2: None}})
    assert shares(at(0, gpu(0)), after, {1: "a", 2: "b"}) == {"a": None, "b": None, REST: 1_000}


def test_one_unknown_counter_makes_every_sum_with_it_unknown() -> None:
    """A reset GPU leaves its holder and the node without a figure, the others with theirs."""
    held = {"gpu:A": {1: None}}
    before = at(0, cpu(0), gpu(500), cpu_s={1: 0, 2: 0}, holders=held)
    after = at(1, cpu(100), gpu(3), cpu_s={1: 0.5, 2: 0.5}, busy_s=1, holders=held)
    assert shares(before, after, {1: "a", 2: "b"}) == {"a": None, "b": 50, REST: None}


def test_a_sum_claims_only_its_weakest_method() -> None:
    """Sampled GPU power beside a processor's counter is sampled power."""
    sampled = Counter("gpu:A", "sampled_power", 100)
    held = {"gpu:A": {1: None}}
    before = at(0, cpu(0), Counter("gpu:A", "sampled_power", 0), cpu_s={1: 0, 2: 0})
    after = at(1, cpu(100), sampled, cpu_s={1: 1, 2: 1}, busy_s=2, holders=held)
    result = apportion(before, after, {1: "a", 2: "b"}, Fraction(0))
    assert result["a"] == Share(150, "sampled_power")
    assert result["b"] == Share(50, "counter_cpu")


ENERGY = st.integers(0, 10**9)


@given(
    package=ENERGY,
    memory=ENERGY,
    card=ENERGY,
    start=st.integers(0, RANGE - 1),
    used=st.dictionaries(st.integers(1, 6), st.integers(0, 3 * SECOND), max_size=6),
    holding=st.dictionaries(st.integers(1, 8), st.integers(0, 100), max_size=8),
    busy=st.integers(0, 4 * SECOND),
    idle=st.integers(0, 200),
)
def test_shares_and_rest_are_what_the_counters_counted(
    package: int, memory: int, card: int, start: int, used: dict[int, int],
    holding: dict[int, int], busy: int, idle: int,
) -> None:  # fmt: skip
    """Nothing is lost and nothing is booked twice, over wraps, ticks that disagree, idle nodes."""
    owners = {pid: f"p{pid % 3}" for pid in used}
    known = {pid: 100 for pid in used}
    before = Snapshot(
        0, Reading((cpu(start), cpu(0, "package-0/dram"), gpu(5)), {}), 2, 70, known
    )  # fmt: skip
    counters = (cpu((start + package) % RANGE), cpu(memory, "package-0/dram"), gpu(5 + card))
    use = {"gpu:A": dict[int, int | None](holding)}
    after = Snapshot(
        SECOND, Reading(counters, use), 2, 70 + busy, {pid: 100 + us for pid, us in used.items()}
    )  # fmt: skip
    parts = apportion(before, after, owners, Fraction(idle))
    energies = [share.energy_uj for share in parts.values()]
    assert all(energy is not None and energy >= 0 for energy in energies)
    assert sum(energy or 0 for energy in energies) == package + memory + card
