"""A resource that fell silent: when it counts as dead, and what is charged for it.

Nobody measured that charge, so it stands only until the resource is heard of again: a window of
its own that reaches past the last one, or its own end, takes the place of what was inferred.
"""

from steelyard.domain.metering import Resource, SupplyWindow
from steelyard.domain.quantities import SECOND_US

COLLECTOR = "collector"
"""The producer of inferred windows; it numbers nothing that could be missing."""
HEARTBEATS = 3
"""How many heartbeats a resource may leave out before it counts as dead."""
TRAINING_PATIENCE_US = 3_600 * SECOND_US
"""How long a training worker may be silent: it reports at the end of an epoch."""


def counts_as_dead(resource: Resource, last_us: int, now_us: int, heartbeat_us: int) -> bool:
    """Whether a resource that was last heard of at ``last_us`` has been silent for too long.

    >>> replica = Resource("replica/m/1/a", "replica", "cpu", 1, 1, "cpu-hour", 0)
    >>> [counts_as_dead(replica, 0, now, heartbeat_us=10) for now in (30, 31)]
    [False, True]
    """
    patience = HEARTBEATS * heartbeat_us
    if resource.kind == "train_worker":
        patience = max(patience, TRAINING_PATIENCE_US)
    return now_us - last_us > patience


def inferred_window(resource: Resource, last_us: int, heartbeat_us: int) -> SupplyWindow:
    """The window that ends a silent resource: one heartbeat, reserved, nobody's work.

    It starts a microsecond after the last moment that is known, so that the window which the
    resource itself may still hand in keeps its place: no two windows of a resource start at once.
    """
    start_us = last_us + 1
    return SupplyWindow(
        producer_id=COLLECTOR, boot_id=f"inferred:{resource.resource_id}:{start_us}", seq=1,
        resource_id=resource.resource_id, window_start_us=start_us,
        window_end_us=start_us + heartbeat_us,
        reserved_us=0 if resource.kind == "node" else heartbeat_us * resource.device_count,
    )  # fmt: skip
