"""The files through which a node's meter and the producers on it speak.

One folder a platform, on local disk. A producer writes ``KEY.producer``: its processes and what it
has booked. The meter writes ``KEY.account``: what it has attributed to them. Each file has one
writer and is replaced as a whole. ``meter.json`` says that a meter works for this platform; where
there is none, producers write nothing. No file outlives its use, so nothing is synced.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from steelyard.adapters.power.processes import Process, boot_id, identified, runs
from steelyard.domain.energy_account import (
    STALE_AFTER,
    UNKNOWN,
    Account,
    Metered,
    Position,
    skip,
    take,
)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Registration:
    """One producer: ``owner`` books, ``processes`` use. ``node`` is where they run.

    ``booked_uj`` is what it has booked of its account with ``meter``; ``ended``: it books no more,
    because it said so or because its owner is gone.
    """

    key: str
    node: str
    owner: Process
    processes: tuple[Process, ...]
    meter: str = ""
    booked_uj: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class MeterState:
    """What the node's meter says of itself. ``metering`` False: another one has the node."""

    pid: int
    about: str
    metering: bool
    at_us: int
    interval_us: int


class Board:
    """The meter's side: it reads as ``about`` says, once every ``interval_us``."""

    def __init__(self, folder: Path, about: str, interval_us: int) -> None:
        self._folder = folder
        self._about = about
        self._interval_us = interval_us
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._node = boot_id()

    def producers(self) -> list[Registration]:
        """Every producer on this node; files of other nodes, in a shared home, are let be."""
        found = [self._registration(path) for path in sorted(self._folder.glob("*.producer"))]
        return [one for one in found if one is not None]

    def _registration(self, path: Path) -> Registration | None:
        found = _registration(path)
        if found is None or found.node != self._node:
            return None
        if found.ended or runs(found.owner):
            return found
        last = _registration(path)  # what a process wrote before it went is its last word
        return None if last is None else replace(last, ended=True)

    def publish(self, accounts: Mapping[str, Account]) -> None:
        """Replace every account, then say that they are there."""
        for key, account in accounts.items():
            _replace(self._folder / f"{key}.account", asdict(account))
        self._say(metering=True)

    def wait(self) -> None:
        """Say that another process meters this node."""
        self._say(metering=False)

    def forget(self, key: str) -> None:
        """Remove a producer that has ended."""
        for suffix in ("producer", "account"):
            (self._folder / f"{key}.{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """The meter stops: from now on energy is unknown."""
        (self._folder / "meter.json").unlink(missing_ok=True)
        for path in self._folder.glob("*.account"):
            path.unlink(missing_ok=True)

    def _say(self, *, metering: bool) -> None:
        state = MeterState(os.getpid(), self._about, metering, monotonic_us(), self._interval_us)
        _replace(self._folder / "meter.json", asdict(state))


class EnergyAccount:
    """A producer's side: the energy of its windows, one after the other.

    Not thread-safe. Nothing here stops a producer: what cannot be read or written is unknown.
    """

    def __init__(self, folder: Path, pids: Iterable[int]) -> None:
        self._folder = folder
        self._pids = tuple(pids)
        self._key = uuid.uuid4().hex
        self._position = Position(monotonic_us())
        self._registration: Registration | None = None
        self._register()

    def take(self, window_us: int) -> Metered:
        """Close a window of this length that ends now."""
        if not self._register():
            self._position = replace(self._position, broken=True)
            return UNKNOWN
        before = self._position
        metered, self._position = take(before, self._account(), monotonic_us(), window_us)
        return metered if self._say(ended=False) else UNKNOWN

    def skip(self) -> None:
        """Leave out what has come until now: this producer had nothing reserved."""
        if self._register():
            self._position = skip(self._position, self._account(), monotonic_us())

    def close(self) -> None:
        """Book no more; what was not taken goes to the node."""
        if self._registration is not None:
            self._say(ended=True)
            if not _is_metered(self._folder):
                (self._folder / f"{self._key}.producer").unlink(missing_ok=True)
            self._registration = None

    def _register(self) -> bool:
        """Once a meter works here; False as long as none does, and where nothing is to watch."""
        if self._registration is None and self._pids and _is_metered(self._folder):
            try:
                owner = identified([os.getpid()])[0]
                mine = Registration(self._key, boot_id(), owner, identified(self._pids))
            except OSError:
                return False
            self._registration = mine
            self._say(ended=False)
        return self._registration is not None

    def _account(self) -> Account | None:
        return _read(self._folder / f"{self._key}.account", Account)

    def _say(self, *, ended: bool) -> bool:
        assert self._registration is not None
        position = self._position
        self._registration = replace(
            self._registration, meter=position.meter, booked_uj=position.booked_uj, ended=ended
        )
        try:
            _replace(self._folder / f"{self._key}.producer", asdict(self._registration))
        except OSError:
            return False
        return True


def meter_state(folder: Path) -> MeterState | None:
    """What this platform's meter last said; None when none runs (it says so every interval)."""
    state = _read(folder / "meter.json", MeterState)
    if state is None or monotonic_us() - state.at_us > STALE_AFTER * state.interval_us:
        return None
    return state


def monotonic_us() -> int:
    """Microseconds on the clock that all processes of a node share and nobody sets."""
    return time.monotonic_ns() // 1_000


def _is_metered(folder: Path) -> bool:
    state = meter_state(folder)
    return state is not None and state.metering


def _registration(path: Path) -> Registration | None:
    found = _read(path, Registration)
    if found is None:
        return None
    pid, started = found.owner  # JSON has lists where we have tuples
    processes = tuple((pid, started) for pid, started in found.processes)
    return replace(found, owner=(pid, started), processes=processes)


def _read(path: Path, kind: type[Row]) -> Row | None:
    """What a file holds; None when it is missing or another version of us wrote it."""
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _replace(path: Path, row: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(row), encoding="utf-8")
    partial.replace(path)
