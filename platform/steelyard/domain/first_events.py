"""How an interval counts units: those without an event before, and those that have their first.

A unit (a user, a device) that failed once tells nothing new by failing again, so from the interval
after its first event on it is counted no more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from steelyard.domain.e_process import Interval

Counts = dict[tuple[int, int], dict[str, tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Had:
    """The units that had their event before a moment."""

    until_us: int
    units: frozenset[str] = frozenset()


class Active(NamedTuple):
    """A unit that asked one arm in one interval, under one weight table.

    ``event_us`` is when it had an event there for the first time; None: it had none. A request
    that names no unit is one that never ``recurs``.
    """

    unit: str
    recurs: bool
    generation: int
    number: int
    arm: str
    event_us: int | None


class Counted(NamedTuple):
    """Intervals by (generation, number or start), and who had an event before the last of them."""

    found: dict[tuple[int, int], Interval]
    had: Had


def counted(active: Iterable[Active], had: Had, until_us: int) -> Counted:
    """Intervals by (generation, number), of units that come one after the other.

    ``had`` are the units that had their event before the first interval; those that had it before
    ``until_us`` are told.

    >>> rows = [Active("a", True, 1, 0, "canary", 7), Active("a", True, 1, 1, "canary", 65),
    ...         Active("b", True, 1, 1, "stable", None), Active("c", True, 1, 1, "stable", 66)]
    >>> found, then = counted(rows, Had(0, frozenset("c")), 60)
    >>> for key, interval in found.items():
    ...     print(key, interval)
    (1, 0) Interval(n_canary=1, x_canary=1, n_stable=0, x_stable=0)
    (1, 1) Interval(n_canary=0, x_canary=0, n_stable=1, x_stable=0)
    >>> sorted(then.units)
    ['a', 'c']
    """
    counts: Counts = {}
    more: set[str] = set()
    for unit, found in groupby(active, key=attrgetter("unit")):
        if unit in had.units:
            continue
        rows = list(found)
        events = [(one.event_us, one.number) for one in rows if one.event_us is not None]
        first_us, last = min(events, default=(None, max(one.number for one in rows)))
        if first_us is not None and first_us < until_us and rows[0].recurs:
            more.add(unit)
        for one in rows:
            if one.number <= last:
                arms = counts.setdefault((one.generation, one.number), {})
                n, x = arms.get(one.arm, (0, 0))
                is_first = first_us is not None and one.event_us == first_us
                arms[one.arm] = n + 1, x + is_first
    return Counted(by_arm(counts), Had(until_us, had.units | more))


def by_arm(counts: Counts) -> dict[tuple[int, int], Interval]:
    """Intervals of (requests or units, events) of each arm."""
    nothing = (0, 0)
    return {
        key: Interval(*arms.get("canary", nothing), *arms.get("stable", nothing))
        for key, arms in counts.items()
    }
