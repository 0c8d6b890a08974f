"""When a silent resource counts as dead, and what is charged for its silence."""

import pytest

from steelyard.domain.metering import Resource, ResourceKind
from steelyard.domain.quantities import SECOND_US
from steelyard.domain.silence import counts_as_dead, inferred_window

HEARTBEAT_US = 10 * SECOND_US


def _resource(kind: ResourceKind = "replica", devices: int = 1) -> Resource:
    return Resource("serve/m/0", kind, "gpu", devices, 1, "gpu-hour", 0)


@pytest.mark.parametrize(
    ("kind", "silent_s", "dead"),
    [
        ("replica", 30, False),
        ("replica", 31, True),
        ("node", 31, True),
        ("train_worker", 31, False),
        ("train_worker", 3_600, False),
        ("train_worker", 3_601, True),
    ],
)
def test_three_heartbeats_are_patience_and_an_hour_for_training(
    kind: ResourceKind, silent_s: int, dead: bool
) -> None:
    """A training worker reports at the end of an epoch, everyone else at every heartbeat."""
    now_us = (100 + silent_s) * SECOND_US
    assert counts_as_dead(_resource(kind), 100 * SECOND_US, now_us, HEARTBEAT_US) is dead


def test_training_with_slow_heartbeats_gets_three_of_them() -> None:
    """An hour is the least, not the most."""
    slow, now_us = 3_600 * SECOND_US, 2 * 3_600 * SECOND_US
    assert not counts_as_dead(_resource("train_worker"), 0, now_us, slow)


def test_silence_costs_one_heartbeat_of_every_device() -> None:
    """Reserved time is wall time x devices, and nothing was metered."""
    window = inferred_window(_resource(devices=4), 100, HEARTBEAT_US)
    assert window.window_end_us - window.window_start_us == HEARTBEAT_US
    assert window.reserved_us == 4 * HEARTBEAT_US
    assert (window.cpu_us, window.energy_mj, window.energy_method) == (None, None, "unknown")


def test_a_node_reserves_nothing_and_so_its_silence_is_free() -> None:
    """Its devices are paid for where they work."""
    assert inferred_window(_resource("node"), 100, HEARTBEAT_US).reserved_us == 0


def test_silence_takes_no_measured_window_s_place() -> None:
    """The window that the resource may still hand in starts where the last one ended."""
    assert inferred_window(_resource(), 100, HEARTBEAT_US).window_start_us == 101


def test_the_same_silence_has_the_same_key_and_another_one_another() -> None:
    """Two collectors book it once; dead a second time is booked beside the first."""
    first, again = (inferred_window(_resource(), 100, HEARTBEAT_US) for _ in range(2))
    later = inferred_window(_resource(), 500, HEARTBEAT_US)
    assert first == again
    assert first.idem_key != later.idem_key
    assert (first.boot_id, first.seq) != (later.boot_id, later.seq)
