"""What both arms of a rollout answered of late, counted on from what was counted before.

A turn of the controller looks at the answers since the last one and at those that may still
arrive, not at all of the rollout: what is older than that is counted for good and remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Answerer = Literal["canary", "stable", "shadow"]
"""Who answered: an arm, or the candidate unseen, which repeated a request of stable's."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which answers are looked at: those from ``since_us`` on.

    Before ``settled_us`` nothing is expected to arrive any more. From ``recent_us`` until before
    ``until_us`` is the last interval.
    """

    since_us: int
    settled_us: int
    recent_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers within a window of one answerer under one weight table.

    ``settled`` and ``later`` count executed requests, of a shadow those answered well, before and
    from the window's ``settled_us`` on; ``recent`` and ``failed`` are those of the last interval
    and how many of them failed. The moments are those of the newest failure and of the newest
    answer that was none, before ``until_us``; 0: there was none.
    """

    by: Answerer
    generation: int
    settled: int
    later: int
    recent: int
    failed: int
    last_failed_us: int
    last_well_us: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What is remembered of a rollout: requests that are counted for good, and until when.

    ``row`` is (failures in a row back from the newest answer of the candidate, their units).
    """

    settled_us: int = 0
    at_us: int = 0
    canary: Mapping[int, int] = field(default_factory=dict)
    copies: int = 0
    row: tuple[int, int] = (0, 0)


def window(known: Counted, now_us: int, interval_us: int, settle_us: int) -> Window:
    """What to look at now. After a clock was set back everything is counted anew.

    >>> window(Counted(settled_us=30, at_us=90), 100, 60, 20)
    Window(since_us=30, settled_us=40, recent_us=40, until_us=100)
    """
    counted_us = known.settled_us if now_us >= known.at_us else 0
    recent_us = now_us - interval_us
    settled_us = max(counted_us, min(recent_us, now_us - settle_us))
    return Window(counted_us, settled_us, recent_us, now_us)


def counted_on(
    known: Counted, looked: Window, answers: Sequence[Answers], row: tuple[int, int]
) -> Counted:
    """What is remembered after a look."""
    anew = looked.since_us < known.settled_us
    canary = {} if anew else dict(known.canary)
    for one in answers:
        if one.by == "canary" and one.settled:
            canary[one.generation] = canary.get(one.generation, 0) + one.settled
    copies = 0 if anew else known.copies
    copies += sum(one.settled for one in answers if one.by == "shadow")
    return Counted(looked.settled_us, looked.until_us, canary, copies, row)


def canary_requests(
    known: Counted, answers: Sequence[Answers], generation: int
) -> tuple[int, int]:  # fmt: skip
    """Executed canary requests: under a weight table, and all. ``known`` is from after the look.

    Later tables count with it: they are of other candidates, whose steps change nothing here.
    """
    later = [(one.generation, one.later) for one in answers if one.by == "canary"]
    every = [*known.canary.items(), *later]
    return sum(n for of, n in every if of >= generation), sum(n for _, n in every)


def copies_answered(known: Counted, answers: Sequence[Answers]) -> int:
    """Copies of live requests that the candidate answered well."""
    return known.copies + sum(one.later for one in answers if one.by == "shadow")


def newest_failed(answers: Sequence[Answers]) -> bool | None:
    """Whether the candidate's newest answer failed, seen or unseen; None when there is none."""
    own = [one for one in answers if one.by != "stable"]
    failed = max((one.last_failed_us for one in own), default=0)
    well = max((one.last_well_us for one in own), default=0)
    return None if not failed and not well else failed >= well


def recent(answers: Sequence[Answers]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(Requests, failures) in the last interval: the candidate's, seen or unseen, and stable's."""
    own = [(one.recent, one.failed) for one in answers if one.by != "stable"]
    base = [(one.recent, one.failed) for one in answers if one.by == "stable"]
    return _sum(own), _sum(base)


def _sum(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(n for n, _ in pairs), sum(x for _, x in pairs)
