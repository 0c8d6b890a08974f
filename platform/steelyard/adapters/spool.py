"""The spool: facts wait on local disk, as closed segments, until the ledger has them.

A segment is written under a temporary name, synced and renamed: it exists whole or not at all.
The collector reads segments in order and deletes each one after its transaction, so a crash on
either side repeats rows and never loses one; idempotency keys make the repetition harmless.
Standard library only, because replicas import it.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from steelyard.domain.audit import PredictionRecord
from steelyard.domain.facts import Fact
from steelyard.domain.metering import (
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)

KINDS: dict[str, type[Fact]] = {
    "resource": Resource,
    "resource_end": ResourceEnd,
    "supply": SupplyWindow,
    "usage": UsageWindow,
    "attempt": RunAttempt,
    "prediction": PredictionRecord,
}
NAMES = {kind: name for name, kind in KINDS.items()}


class Producer:
    """One measuring process: numbers its rows within this boot and writes segments.

    Not thread-safe: one thread writes. ``producer_id`` stays the same over restarts of the same
    role (``replica:digits/1``), ``boot_id`` is new each time.
    """

    def __init__(self, directory: Path, producer_id: str) -> None:
        self.producer_id = producer_id
        self.boot_id = uuid.uuid4().hex
        self._directory = directory
        self._sequence = 0
        self._segment = 0
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def next_seq(self) -> int:
        """The number for the next supply or usage row of this boot, from 1."""
        self._sequence += 1
        return self._sequence

    def write(self, facts: Iterable[Fact]) -> Path | None:
        """Store facts as one durable segment; None when there were none."""
        lines = [json.dumps({"fact": NAMES[type(f)], **asdict(f)}) for f in facts]
        if not lines:
            return None
        self._segment += 1
        path = self._directory / f"{self.boot_id}-{self._segment:08d}.jsonl"
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        return path


def segments(directory: Path) -> Sequence[Path]:
    """Closed segments, oldest first; a producer's own segments keep their order."""
    found = [(path.stat().st_mtime_ns, path.name, path) for path in _existing(directory)]
    return [path for _, _, path in sorted(found)]


def _existing(directory: Path) -> Iterator[Path]:
    for path in directory.glob("*.jsonl"):
        if path.exists():
            yield path


def read(segment: Path) -> list[Fact]:
    """The facts of a segment.

    Raises:
        ValueError: a line is not a fact; the message names the file and the line.
    """
    return [_fact(segment, number, line) for number, line in
            enumerate(segment.read_text(encoding="utf-8").splitlines(), start=1)]  # fmt: skip


def _fact(segment: Path, number: int, line: str) -> Fact:
    try:
        row = json.loads(line)
        kind = KINDS[row.pop("fact")]
        if isinstance(row.get("classes"), list):
            row["classes"] = tuple(row["classes"])
        return kind(**row)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{segment.name}, line {number}: not a fact: {error}") from error


class SpoolFolder:
    """All producers' segments on this machine, for the collector."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def segments(self) -> Sequence[Path]:
        """Closed segments, oldest first."""
        return segments(self._directory)

    def read(self, segment: Path) -> list[Fact]:
        """The facts of one segment; ValueError when it is damaged."""
        return read(segment)

    def done(self, segment: Path) -> None:
        """The ledger has it: it may go."""
        segment.unlink(missing_ok=True)

    def damaged(self, segment: Path) -> None:
        """Keep it aside for a person, out of the collector's way."""
        segment.rename(segment.with_suffix(".damaged"))
