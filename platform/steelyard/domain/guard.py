"""When a canary is so bad that no statistics are needed, and when stable is no better."""

from steelyard.domain.rollout import Recent
from steelyard.domain.rollout_plan import Guard


def disaster(guard: Guard, recent: Recent) -> str | None:
    """What the guard says against the canary, unless stable fails as well."""
    if not _stable_is_well(recent):
        return None
    row, units = recent.failed_in_a_row, recent.failing_units
    if row >= guard.consecutive and units >= guard.units:
        return f"guard: the canary's last {row} requests failed, of {units} units"
    if too_many(guard, recent):
        return f"guard: {recent.canary[1]} of the canary's last {recent.canary[0]} requests failed"
    return None


def too_many(guard: Guard, recent: Recent) -> bool:
    """Whether the canary failed as often within one interval as the guard bears at most."""
    n, x = recent.canary
    return n >= guard.requests and x >= guard.share * n


def _stable_is_well(recent: Recent) -> bool:
    """Whether stable failed less than half as often as the canary, or was not asked."""
    (n, x), (base_n, base_x) = recent.canary, recent.stable
    return base_n == 0 or 2 * base_x * n < x * base_n
