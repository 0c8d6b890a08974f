"""The spool: facts wait on local disk, as closed segments, until the ledger has them.

A segment is written under a temporary name, synced and renamed: it exists whole or not at all.
The collector reads segments in order and deletes each one after its transaction, so a crash on
either side repeats rows and never loses one; idempotency keys make the repetition harmless.
A segment with predictions ends in a seal over all its lines (``domain/audit_chain``).
Light imports only, because replicas import it.
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import Sealing, SegmentSeal, holds
from steelyard.domain.facts import Fact
from steelyard.domain.metering import (
    BootEnd,
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
    "boot_end": BootEnd,
    "prediction": PredictionRecord,
    "segment": SegmentSeal,
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
        self._sealing = Sealing(self.boot_id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def boot_end(self, ended_us: int) -> BootEnd:
        """The last word of this boot: how many rows it numbered, so that a missing one shows."""
        return BootEnd(self.producer_id, self.boot_id, self._sequence, ended_us)

    def next_seq(self) -> int:
        """The number for the next supply or usage row of this boot, from 1."""
        self._sequence += 1
        return self._sequence

    def form(self, kind: type[Fact], common: Mapping[str, object]) -> "Form":
        """For many facts of one kind, whose ``common`` fields say the same."""
        return Form(kind, common)

    def write(self, facts: Iterable[Fact], records: Sequence[bytes] = ()) -> Path | None:
        """Store facts, and predictions that a ``Form`` encoded, as one durable segment.

        None when there were none.
        """
        lines = [_line(fact) for fact in facts]
        if not lines and not records:
            return None
        seal = self._sealing.seal(lines, records) if records else None
        lines += [*records, *([_line(seal)] if seal else ())]
        self._segment += 1
        path = self._directory / f"{self.boot_id}-{self._segment:08d}.jsonl"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(b"\n".join((*lines, b"")))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        if seal:
            self._sealing.sealed(seal)  # it is there now, whatever follows
        _sync(self._directory)  # the name, too, must survive a power cut
        return path


class Form:
    """Encodes facts of one kind that have ``common`` fields: these are encoded once.

    For a fact a request: it is encoded while its values are at hand and then only bytes wait,
    which neither the garbage collector nor the thread that writes has to walk through.
    """

    def __init__(self, kind: type[Fact], common: Mapping[str, object]) -> None:
        self._start = _json({"fact": NAMES[kind], **common})[:-1] + b","

    def line(self, own: Mapping[str, object]) -> bytes:
        """One fact, from the fields that are its own."""
        return self._start + _json(own)[1:]


def _line(fact: Fact) -> bytes:
    # Facts are flat, so asdict would copy for nothing.
    row = {"fact": NAMES[type(fact)]}
    return _json(row | {name: getattr(fact, name) for name in fact.__dataclass_fields__})


def _json(row: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(row)
    except TypeError:  # FLOPs may exceed the 64 bits that orjson writes
        return json.dumps(row).encode()


def segments(directory: Path) -> Sequence[Path]:
    """Closed segments: the boot that wrote first comes first, each in its own order.

    The order within a boot is its numbering, whatever the clock did meanwhile: a resource is
    declared before its windows.
    """
    boots: dict[str, list[tuple[str, int]]] = {}
    for path in directory.glob("*.jsonl"):
        with suppress(FileNotFoundError):  # another collector was faster
            written_ns = path.stat().st_mtime_ns
            boots.setdefault(path.stem.rpartition("-")[0], []).append((path.name, written_ns))
    oldest = sorted(boots.values(), key=lambda own: (min(at for _, at in own), min(own)))
    return [directory / name for own in oldest for name, _ in sorted(own)]


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(segment: Path) -> list[Fact]:
    """The facts of a segment.

    Raises:
        ValueError: a line is not a fact, or they are not those that were sealed; the message
            names the file and the line.
    """
    lines = segment.read_bytes().split(b"\n")
    if lines.pop():
        raise ValueError(f"{segment.name}: the last line is not whole")
    facts = [_fact(segment, number, line) for number, line in enumerate(lines, start=1)]
    if facts and isinstance(facts[-1], SegmentSeal):
        _check(segment, facts[-1], lines[:-1], facts[:-1])
    return facts


def _check(segment: Path, seal: SegmentSeal, lines: list[bytes], facts: list[Fact]) -> None:
    own: dict[bool, list[bytes]] = {False: [], True: []}
    for line, fact in zip(lines, facts, strict=True):
        own[isinstance(fact, PredictionRecord)].append(line)
    if not holds(seal, own[False], own[True]):
        raise ValueError(f"{segment.name}: its lines are not those that were sealed")


PLAIN = frozenset({str, int, bool, tuple, type(None)})
"""What a fact's fields are."""


def _fact(segment: Path, number: int, line: bytes) -> Fact:
    try:
        row, odd = _row(orjson.loads(line))
        if odd:  # a whole number beyond 64 bits is a float to orjson
            row, odd = _row(json.loads(line))
        if odd:
            raise ValueError(f"{', '.join(odd)} is neither text nor a whole number")
        return KINDS[row.pop("fact")](**row)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{segment.name}, line {number}: not a fact: {error}") from error


def _row(row: Any) -> tuple[dict[str, Any], list[str]]:
    """A fact's fields, and those of them that are none."""
    if isinstance(row.get("classes"), list):
        row["classes"] = tuple(row["classes"])
    if PLAIN.issuperset(map(type, row.values())):
        return row, []
    return row, [name for name, value in row.items() if type(value) not in PLAIN]


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
        with suppress(FileNotFoundError):  # another collector was faster
            segment.rename(segment.with_suffix(".damaged"))
