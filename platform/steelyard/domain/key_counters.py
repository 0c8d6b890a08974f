"""What keys asked, in the form in which all replicas of a machine count it: one file a key.

A file holds whole numbers of 8 bytes: a window of time, what was spent in it, and counters that
only grow. That of a key, named by its id, is spent by the minute; that of a key and a model, named
``<key id>.<model>``, by the day, and has no counters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
COUNTED = ("requests", "rows", "denied", "near_duplicates")
"""The counters in their order; rows are those of requests that were within the limits."""
NUMBERS = 2 + len(COUNTED)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a key asked this machine's replicas; ``spent`` is by model, rows of today's budgets."""

    counts: Mapping[str, int]
    spent: Mapping[str, int]


def file_name(key_id: str, model: str | None = None) -> str:
    """The file of a key, or of its budget for a model."""
    return key_id if model is None else f"{key_id}.{model}"


def spent_in(window: int, counted: int, spent: int) -> int:
    """What was spent in a window, where ``spent`` was counted in window ``counted``.

    A clock that was put back by less than a window does not give a budget twice; one that was far
    off does not lock a key out for long.
    """
    return spent if window <= counted <= window + 1 else 0


def asked(files: Mapping[str, tuple[int, ...]], now_us: int) -> dict[str, Asked]:
    """By key id, from the files' numbers by name."""
    ids = sorted({name.partition(".")[0] for name in files})
    return {key_id: _asked(key_id, files, now_us // DAY_US) for key_id in ids}


def _asked(key_id: str, files: Mapping[str, tuple[int, ...]], today: int) -> Asked:
    counts = files.get(key_id, (0,) * NUMBERS)[2:]
    spent = {
        name.partition(".")[2]: spent_in(today, numbers[0], numbers[1])
        for name, numbers in sorted(files.items())
        if name.startswith(f"{key_id}.")
    }
    return Asked(dict(zip(COUNTED, counts, strict=True)), spent)
