"""Counters that outlive their process: one small file a replica, mapped into its memory.

A count is one addition to mapped memory: no system call, no thread, and a process that is killed
loses nothing, because the pages are the kernel's. Every number is 8 aligned bytes, which x86 and
ARM read and write whole. The files of processes that are gone are folded into one, so that there
are as many as replicas; a sum read meanwhile neither misses nor doubles them.
"""

import fcntl
import mmap
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from steelyard.domain.serving_counters import (
    SLOTS,
    ReplicaCounters,
    Served,
    of_header,
    summed,
)

HEADER = 4096
WIDTH = 8
REMEMBERED = 1_000
"""Names of folded files that are kept, for a reader that listed the folder before the folding."""


class CounterFile:
    """The writing end: the counters of this process, all 0 at first."""

    def __init__(self, folder: Path, boot: str, served: Served) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        header = ReplicaCounters(boot, served, os.getpid()).header() | {"slots": SLOTS}
        path = folder / f"{boot}.counters"
        draft = path.with_suffix(".partial")
        with draft.open("w+b") as file:
            file.write(orjson.dumps(header).ljust(HEADER, b"\0"))
            file.truncate(HEADER + WIDTH * len(SLOTS))
            file.flush()
            # The map keeps a copy of the descriptor, and with it the lock, for as long as it lives.
            fcntl.flock(file, fcntl.LOCK_EX)
            self._map = mmap.mmap(file.fileno(), 0)
        draft.rename(path)
        self.counts = memoryview(self._map)[HEADER:].cast("q")
        """One number for each of ``SLOTS``; adding to one counts."""


class CounterFolder:
    """The reading end: all counters of the replicas of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._past = folder / "past.json"

    def living(self) -> list[ReplicaCounters]:
        """The replicas whose processes run."""
        return self._read(path for path in self._files() if _runs(path))

    def totals(self) -> dict[Served, dict[str, int]]:
        """The counters of each version since this folder exists."""
        # Before what is folded: a file that goes meanwhile is in there.
        replicas = self._read(self._files())
        past, folded = self._folded()
        return summed([*(one for one in replicas if one.boot not in folded), *past])

    def fold(self) -> int:
        """Add the files of processes that are gone to the folded one; how many there were.

        Killed at any point, it is repeated without harm: what is folded is named there first.
        """
        with self._alone() as mine:
            files = [path for path in self._files() if not _runs(path)] if mine else []
            if not files:
                return 0
            gone = self._read(files)  # only now: what has ended counts no more
            past, folded = self._folded()
            new = [one for one in gone if one.boot not in folded]
            names = [*folded, *(one.boot for one in new)][-REMEMBERED - len(gone) :]
            self._write(summed([*past, *new]), names)
            for path in files:
                path.unlink(missing_ok=True)
            return len(files)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.counters"))

    def _read(self, files: Iterable[Path]) -> list[ReplicaCounters]:
        return [one for path in files if (one := _read(path)) is not None]

    def _folded(self) -> tuple[list[ReplicaCounters], list[str]]:
        """The sums of what was folded, and the boots that are in them."""
        try:
            document = orjson.loads(self._past.read_bytes())
        except FileNotFoundError:
            return [], []
        sums = [of_header(row["of"], row["counts"]) for row in document["sums"]]
        return sums, document["folded"]

    def _write(self, sums: dict[Served, dict[str, int]], folded: Collection[str]) -> None:
        rows = [
            {"of": ReplicaCounters("", served, 0).header(), "counts": counts}
            for served, counts in sums.items()
        ]
        draft = self._past.with_suffix(".partial")
        with draft.open("wb") as file:
            file.write(orjson.dumps({"sums": rows, "folded": list(folded)}))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._past)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody else folds just now; while it lasts, nobody else may."""
        if not self._folder.is_dir():
            yield False
            return
        with (self._folder / "fold.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _runs(path: Path) -> bool:
    """Whether its process holds the file's lock, which the kernel frees however it ended."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(path: Path) -> ReplicaCounters | None:
    """One file, by the names in it, which may be an earlier release's; None when it is gone."""
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        header = orjson.loads(data[:HEADER].rstrip(b"\0"))
        numbers = memoryview(data)[HEADER:].cast("q")
        return of_header(header, dict(zip(header["slots"], numbers, strict=True)))
    return None
