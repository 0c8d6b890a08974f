"""The chain of predictions: a replica seals the records of a segment, anybody can check it later.

A segment is what a replica wrote at once. Its digest runs over the boot that wrote it, its number
within that boot, the digest of the segment before it and the bytes of every record in order. The
state of that digest after each record is the record's link, so that a check can say which record
is the first wrong one. The bytes are made of the stored columns alone (``record_bytes``).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from steelyard.domain.audit import PredictionRecord
from steelyard.domain.hash_chain import GENESIS

FORMAT = 1
FIELDS = (
    "model", "version", "sha256", "resource_id", "digest_method", "prediction_id", "arm",
    "lineage", "generation", "bucket", "received_us", "busy_ns", "items", "status", "unit_sha256",
    "inputs_sha256", "classes", "error", "latency_us", "key_id", "cached", "batch",
    "outputs_sha256", "flags", "inputs", "outputs", "shadows", "trace_id",
)  # fmt: skip
"""What a record's bytes are made of, in this order; another order or field is another FORMAT."""
COMMON = FIELDS[:5]
"""Those that all records of a replica have in common."""
_NAMES = ("fact", *FIELDS)
_in_order, _values = itemgetter(*FIELDS), attrgetter(*FIELDS)
LINK_DIGITS = 16
"""Enough to find the place; what proves is the segment's digest, which has 64."""


@dataclass(frozen=True, slots=True)
class SegmentSeal:
    """What a producer says of the records in one segment, so that nobody can change them unseen.

    ``number`` counts the boot's segments with records from 1, ``previous`` is the digest of the
    one before. ``facts_sha256`` is of the segment's other lines.
    """

    boot_id: str
    number: int
    count: int
    previous: str
    digest: str
    facts_sha256: str
    v: int = FORMAT


def record_bytes(row: Mapping[str, object]) -> bytes:
    """The bytes of a record from its fields; ``classes`` as a sequence of integers or None.

    >>> record_bytes(dict.fromkeys(FIELDS))[:35]
    b'{"fact":"prediction","model":null,"'
    """
    return orjson.dumps(dict(zip(_NAMES, ("prediction", *_in_order(row)), strict=True)))


def record_fields(record: PredictionRecord) -> dict[str, Any]:
    """What a record's bytes are made of."""
    return dict(zip(FIELDS, _values(record), strict=True))


def segment_digest(boot_id: str, number: int, previous: str, records: Iterable[bytes]) -> str:
    """The digest of a segment, in one go."""
    return hashlib.sha256(b"\n".join((_head(boot_id, number, previous), *records, b""))).hexdigest()


class Links:
    """The digest of a segment, record by record.

    >>> links = Links("boot", 1, GENESIS)
    >>> links.add(b"{}") == segment_digest("boot", 1, GENESIS, [b"{}"])[:LINK_DIGITS]
    True
    """

    def __init__(self, boot_id: str, number: int, previous: str) -> None:
        self._state = hashlib.sha256(_head(boot_id, number, previous) + b"\n")

    def add(self, record: bytes) -> str:
        """The link of the next record."""
        self._state.update(record + b"\n")
        return self._state.hexdigest()[:LINK_DIGITS]

    def digest(self) -> str:
        """That of the whole segment, once every record was added."""
        return self._state.hexdigest()


def _head(boot_id: str, number: int, previous: str) -> bytes:
    return f"{FORMAT}|{boot_id}|{number}|{previous}".encode()


class Sealing:
    """Seals the segments of one boot, each onto the one before it."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._number = 0
        self._previous = GENESIS

    def seal(self, facts: Iterable[bytes], records: Sequence[bytes]) -> SegmentSeal:
        """The seal of the next segment; it counts once ``sealed`` was called with it."""
        number = self._number + 1
        return SegmentSeal(
            self._boot_id, number, len(records), self._previous,
            segment_digest(self._boot_id, number, self._previous, records), lines_sha256(facts),
        )  # fmt: skip

    def sealed(self, seal: SegmentSeal) -> None:
        """The segment was written: the next one follows it."""
        self._number, self._previous = seal.number, seal.digest


def holds(seal: SegmentSeal, facts: Iterable[bytes], records: Sequence[bytes]) -> bool:
    """Whether these are the lines that were sealed, in the format that is known here."""
    digest = segment_digest(seal.boot_id, seal.number, seal.previous, records)
    return (seal.v, seal.count, seal.digest, seal.facts_sha256) == (
        FORMAT, len(records), digest, lines_sha256(facts),
    )  # fmt: skip


def lines_sha256(lines: Iterable[bytes]) -> str:
    """Digest of lines that are no records."""
    return hashlib.sha256(b"\n".join(lines)).hexdigest()
