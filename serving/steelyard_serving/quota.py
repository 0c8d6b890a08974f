"""How much each key has asked: counts that all replicas of this node share, in small files.

A count belongs to a window of time, a minute or a day of UTC: when another has begun, it starts
again from nothing. So there is one file a key, and one a key and model, and none to clear away.
"""

import fcntl
import logging
import mmap
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from steelyard.domain.api_key import ApiKey
from steelyard.domain.key_counters import (
    COUNTED,
    DAY_US,
    MINUTE_US,
    NUMBERS,
    file_name,
    spent_in,
)
from steelyard.settings import Settings
from steelyard_serving.access import Denied
from steelyard_serving.secret_files import private_dir

OPEN_FILES = 256
"""Most files that a replica holds open; the one that was used longest ago is closed."""
UNLIMITED = 2**62
_BYTES = 8 * NUMBERS
_REQUESTS, _ROWS, _DENIED, _NEAR = range(len(COUNTED))
_NONE = (0,) * len(COUNTED)
log = logging.getLogger(__name__)


class Tally:
    """A count in a window of time and counters, in a file that several processes share.

    Exact for those who take turns; a turn ends with its holder.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _fill(self._file)
            self._map = mmap.mmap(self._file, _BYTES)
        except BaseException:
            os.close(self._file)
            raise
        self._numbers = memoryview(self._map).cast("q")

    def begin(self) -> None:
        """Wait for a turn; one thread of a process at a time, for the turn is the process's."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def end(self) -> None:
        """Let the next one take his turn."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def take(self, window: int, amount: int, limit: int) -> bool:
        """Count ``amount`` in this window, if ``limit`` allows all of it; in a turn."""
        numbers = self._numbers
        spent = spent_in(window, numbers[0], numbers[1])
        if spent + amount > limit:
            return False
        if not spent:
            numbers[0] = window
        numbers[1] = spent + amount
        return True

    def add(self, counts: Sequence[int]) -> None:
        """Add to the counters; in a turn."""
        for place, count in enumerate(counts, 2):
            if count:
                self._numbers[place] += count

    def spent(self, window: int) -> int:
        """What was counted in this window by all processes."""
        return spent_in(window, self._numbers[0], self._numbers[1])

    def counts(self) -> list[int]:
        """The counters, by all processes."""
        return self._numbers[2:].tolist()

    def close(self) -> None:
        """Give the file back; what it counted stays."""
        self._numbers.release()
        self._map.close()
        os.close(self._file)


def _fill(file: int) -> None:
    """Give a new file its bytes: a mapped hole that finds no room ends the process.

    Under the lock, or the slower of two makers would write over what the other counted.
    """
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        if os.fstat(file).st_size < _BYTES:
            os.pwrite(file, bytes(_BYTES), 0)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


class Quota:
    """The limits of keys, kept over all replicas of this node.

    Several nodes each allow the whole limit.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.run_dir / "quota"
        self._open: OrderedDict[str, Tally] = OrderedDict()
        # What is to be counted the next time that a key's file is open to us anyway.
        self._waiting: dict[str, list[int]] = {}

    def take(self, key: ApiKey, model: str, items: int, now_us: int) -> None:
        """Count a request of ``items`` rows that is about to be answered.

        Raises:
            Denied: 429, the key has asked too often in this minute or too much today, and nothing
                of its budget is spent; 503, it cannot be counted.
        """
        waiting = self._waiting.get(key.key_id)
        if waiting is None:
            waiting = self._waiting[key.key_id] = list(_NONE)
        waiting[_REQUESTS] += 1
        try:
            self._take(key, model, items, now_us, waiting)
        except Denied:
            waiting[_DENIED] += 1
            raise
        except OSError as error:
            log.error("what keys ask cannot be counted: %s", error)
            if key.requests_per_minute or key.items_per_day:
                waiting[_DENIED] += 1
                raise Denied(503, "The limits of this key cannot be counted now.", 5) from error
        waiting[_ROWS] += items

    def near(self, key: ApiKey, count: int) -> None:
        """Count rows of a request that was taken as near duplicates."""
        self._waiting[key.key_id][_NEAR] += count

    def counters(self) -> dict[str, dict[str, int]]:
        """By key id: what the keys that asked this replica asked all of this node's."""
        found = {}
        for key_id, waiting in self._waiting.items():
            counted = self._tally(file_name(key_id)).counts()
            sums = [one + other for one, other in zip(counted, waiting, strict=True)]
            found[key_id] = dict(zip(COUNTED, sums, strict=True))
        return found

    def spent(self, key: ApiKey, model: str, now_us: int) -> int:
        """Rows of today's budget that the key has spent on this node; 0 for one without."""
        if not key.items_per_day:
            return 0
        return self._tally(file_name(key.key_id, model)).spent(now_us // DAY_US)

    def stop(self) -> None:
        """Count what waits, and close the files."""
        for key_id, waiting in self._waiting.items():
            tally = self._tally(file_name(key_id))
            tally.begin()
            tally.add(waiting)
            tally.end()
        self._waiting.clear()
        while self._open:
            self._open.popitem()[1].close()

    def _take(
        self, key: ApiKey, model: str, items: int, now_us: int, waiting: list[int]
    ) -> None:  # fmt: skip
        rate, budget = key.requests_per_minute, key.items_per_day
        asked = self._tally(file_name(key.key_id))
        spent = self._tally(file_name(key.key_id, model)) if budget else None
        # A key's budgets have no turns of their own: whoever spends of one has the key's.
        asked.begin()
        try:
            asked.add(waiting)
            in_rate = asked.take(now_us // MINUTE_US, 1, rate or UNLIMITED)
            in_budget = not in_rate or spent is None or spent.take(now_us // DAY_US, items, budget)
        finally:
            asked.end()
        waiting[:] = _NONE
        if not in_rate:
            next_s = _until_next(MINUTE_US, now_us)
            raise Denied(429, f"This key may ask {rate} times a minute.", next_s)
        if not in_budget:
            wait_s = _until_next(DAY_US, now_us) if items <= budget else None
            raise Denied(429, f"This key may ask {budget} rows of {model} a day.", wait_s)

    def _tally(self, name: str) -> Tally:
        tally = self._open.get(name)
        if tally is None:
            tally = self._open[name] = self._opened(name)
        self._open.move_to_end(name)
        return tally

    def _opened(self, name: str) -> Tally:
        if len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return Tally(private_dir(self._folder) / name)


def _until_next(window_us: int, now_us: int) -> int:
    """Whole seconds until the next window."""
    return -((now_us % window_us - window_us) // 1_000_000)
