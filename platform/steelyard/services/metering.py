"""From the spool into SQL: ingest facts, and end resources that fell silent.

Each step may be repeated at any time by any process: a segment is deleted only after its
transaction, and a window that came before changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from steelyard.domain.errors import InvalidInput
from steelyard.domain.facts import Fact
from steelyard.domain.quantities import SECOND_US
from steelyard.domain.silence import HEARTBEATS, counts_as_dead, inferred_window

if TYPE_CHECKING:
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.ports.clock import Clock


class Spool(Protocol):
    """Where closed segments of facts wait."""

    def segments(self) -> Sequence[Path]:
        """Oldest first."""
        ...

    def read(self, segment: Path) -> list[Fact]:
        """The facts of one segment; ValueError when it is damaged."""
        ...

    def done(self, segment: Path) -> None:
        """The ledger has it."""
        ...

    def damaged(self, segment: Path) -> None:
        """Keep it aside for a person."""
        ...


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection did."""

    segments: int = 0
    facts: int = 0
    conflicts: int = 0
    damaged: int = 0


class Metering:
    """The use cases of the metering path."""

    def __init__(self, facts: "FactStore", spool: Spool, clock: "Clock") -> None:
        self._facts = facts
        self._spool = spool
        self._clock = clock

    def collect(self, between: Callable[[], None] = lambda: None) -> Collected:
        """Move every closed segment of the spool into SQL; ``between`` is called after each.

        Raises:
            Unavailable: the database does not answer; what is not stored yet stays in the spool.
        """
        segments = facts = conflicts = damaged = 0
        for segment in self._spool.segments():
            try:
                rows = self._spool.read(segment)
            except FileNotFoundError:  # another collector was faster
                continue
            except ValueError:
                self._spool.damaged(segment)
                damaged += 1
                continue
            try:
                result = self._facts.ingest(rows, self._clock.now_us())
            except InvalidInput:  # it would be refused for ever, and block what comes after it
                self._spool.damaged(segment)
                damaged += 1
                continue
            self._spool.done(segment)
            segments += 1
            facts += result.new
            conflicts += result.conflicts
            between()
        return Collected(segments, facts, conflicts, damaged)

    def close_silent(self, heartbeat_s: float) -> int:
        """End resources that stopped reporting, and book the silence as reserved.

        A resource that died without a word ends one heartbeat after its last window: its cost is
        complete to the heartbeat, only the attribution of that piece (idle) is coarse. If it was
        only delayed, its own windows take the place of what was inferred.
        """
        now = self._clock.now_us()
        heartbeat_us = int(heartbeat_s * SECOND_US)
        windows = [
            inferred_window(resource, last_us, heartbeat_us)
            for resource, last_us in self._facts.silent_resources(now - HEARTBEATS * heartbeat_us)
            if counts_as_dead(resource, last_us, now, heartbeat_us)
        ]
        if windows:
            self._facts.ingest(windows, now)
        return len(windows)
