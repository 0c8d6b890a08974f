"""The check of predictions: recompute every segment from the stored rows, name what is wrong."""

import json
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Engine, Select, Table, func, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.prediction_segments import HEAD
from steelyard.adapters.sql.tables import audit
from steelyard.domain.audit_chain import FIELDS, FORMAT, Links, record_bytes
from steelyard.domain.charge import DAY_US
from steelyard.domain.hash_chain import GENESIS, first_break

Row = Mapping[str, Any]
Segments = Mapping[int, Row]
CHANGED = "its content was changed after it was written"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of predictions went through, and what does not hold.

    ``head`` is the newest segment's number in the chain and its hash; ``broken`` names the first
    wrong row of each segment that has one.
    """

    segments: int
    predictions: int
    erased: int
    head: tuple[int, str] | None
    broken: tuple[str, ...]


class _Row(NamedTuple):
    """A stored record: its place, its bytes (None when there is no way to read it), its link."""

    segment: int
    place: int
    prediction_id: str
    record: bytes | None
    link: str | None


def check(engine: Engine, most: int, segment: int | None = None) -> Checked:
    """Check every segment, or one; at most so many faults are told."""
    with reading(engine) as connection, _any_text(connection):
        segments = _by_number(connection, audit.prediction_segment)
        erasures = {row["segment"]: row for row in _all(connection, audit.prediction_erasure)}
        wanted = [number for number in segments if segment in (None, number)]
        with closing(_rows(connection, segment)) as rows:
            predictions, broken = _walked(rows, segments, erasures, set(wanted), most)
        broken += _chain_faults(connection, segments, erasures)
    newest = max(segments, default=None)
    head = None if newest is None else (newest, str(segments[newest]["hash"]))
    erased = len(erasures.keys() & set(wanted))
    return Checked(len(wanted), predictions, erased, head, tuple(broken[:most]))


def _walked(
    rows: Iterator[_Row], segments: Segments, erasures: Segments, wanted: set[int], most: int
) -> tuple[int, list[str]]:
    """How many records there are, and what is wrong with the segments that they make."""
    predictions, broken = 0, list[str]()
    for number, own in groupby(rows, key=itemgetter(0)):
        stored = list(own)
        predictions += len(stored)
        wanted.discard(number)
        what = _segment_fault(segments.get(number), erasures.get(number), stored)
        broken += [f"segment {number}: {what}"] if what else []
        if len(broken) >= most:
            return predictions, broken
    gone = sorted(wanted - erasures.keys())
    return predictions, broken + [f"segment {one}: its predictions are missing" for one in gone]


def _segment_fault(segment: Row | None, erasure: Row | None, rows: Sequence[_Row]) -> str | None:
    if segment is None:
        return f"prediction {rows[0].prediction_id} belongs to it, but there is no such segment"
    if erasure is not None:
        return f"prediction {rows[0].prediction_id} is there, though the segment was erased"
    links = Links(segment["boot_id"], segment["number"], segment["previous"])
    for place, row in enumerate(rows, start=1):
        who = f"prediction {row.prediction_id} at place {row.place}"
        if row.place != place:
            return f"place {place} is missing, then comes {who}"
        if place > segment["records"]:
            return f"{who} was added: it has {segment['records']} predictions"
        if row.record is None or links.add(row.record) != row.link:
            return f"{who}: {CHANGED}"
    if len(rows) < segment["records"]:
        return f"place {len(rows) + 1} of {segment['records']} is missing"
    return None if links.digest() == segment["digest"] else f"its last prediction: {CHANGED}"


def _chain_faults(connection: Connection, segments: Segments, erasures: Segments) -> Iterator[str]:
    """What is wrong with the rows of segments and erasures themselves."""
    unplaced = select(func.count()).where(audit.prediction.c.segment.is_(None))
    count = connection.execute(unplaced).scalar_one()
    if count:
        yield f"{count} predictions were added without a segment"
    for table, rows in ((audit.prediction_segment, segments.values()),
                        (audit.prediction_erasure, erasures.values())):  # fmt: skip
        ordered = sorted(rows, key=itemgetter("seq"))
        fault = first_break((_hashed(row), row["prev_hash"], row["hash"]) for row in ordered)
        if fault:
            yield f"{table.name} {fault.seq}: {fault.what}"
    head = audit.audit_head.c
    query = select(head.seq, head.hash).where(head.chain == HEAD)
    noted = connection.execute(query).one_or_none()
    newest = max(segments, default=0)
    if (noted.seq, noted.hash) != (newest, segments[newest]["hash"]) if noted else newest:
        yield f"the chain of segments ends at {newest}, and not where it was last written"
    yield from _boot_faults(segments)
    yield from _erasure_faults(segments, erasures)


def _boot_faults(segments: Segments) -> Iterator[str]:
    """Segments that a boot numbered and that never arrived, or do not follow one another."""
    last: dict[str, tuple[int, str]] = {}
    for row in sorted(segments.values(), key=lambda row: (row["boot_id"], row["number"])):
        number, digest = last.get(row["boot_id"], (0, GENESIS))
        last[row["boot_id"]] = (row["number"], row["digest"])
        if row["v"] != FORMAT:
            yield f"segment {row['seq']}: has format {row['v']}, which is not known here"
        elif row["number"] != number + 1:
            yield f"boot {row['boot_id']}: segment {number + 1} never arrived"
        elif row["previous"] != digest:
            yield f"segment {row['seq']}: does not follow the one before it"


def _erasure_faults(segments: Segments, erasures: Segments) -> Iterator[str]:
    for number, row in erasures.items():
        segment = segments.get(number)
        if segment is None or segment["records"] != row["records"]:
            yield f"erasure {row['seq']}: is of no segment that there was"
        elif segment["last_us"] + row["retention_days"] * DAY_US > row["erased_us"]:
            yield f"erasure {row['seq']}: segment {number} was erased before its time"


def _rows(connection: Connection, segment: int | None) -> Generator[_Row, None, None]:
    """Every record in order of its place, those aside among the others."""
    p, a = audit.prediction.c, audit.prediction_aside.c
    columns = [p[name] for name in (*FIELDS, "segment", "place", "link")]
    among = select(*columns).where(p.segment.is_not(None)).order_by(p.segment, p.place)
    aside = select(audit.prediction_aside).order_by(a.segment, a.place)
    if segment is not None:
        among, aside = among.where(p.segment == segment), aside.where(a.segment == segment)
    with (
        closing(_streamed(connection, among)) as own,
        closing(_streamed(connection, aside)) as more,
    ):
        yield from merge(map(_stored, own), map(_aside, more), key=itemgetter(0, 1))


def _stored(row: Sequence[Any]) -> _Row:
    *values, segment, place, link = row
    fields = dict(zip(FIELDS, values, strict=True))
    try:
        text = fields["classes"]
        if text is not None:
            classes = fields["classes"] = json.loads(text)
            # Other white space would be read as the same classes.
            if text != json.dumps(classes):
                raise ValueError("not as it was written")
        record: bytes | None = record_bytes(fields)
    except (TypeError, ValueError):
        record = None
    return _Row(segment, place, _clean(fields["prediction_id"]), record, link)


def _aside(row: Any) -> _Row:
    name, record = _clean(row.prediction_id), _clean(row.record)
    # The name is a copy of what the record says.
    same = record == row.record and b'"prediction_id":%b,' % orjson.dumps(name) in record.encode()
    return _Row(row.segment, row.place, name, record.encode() if same else None, row.link)


def _hashed(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("prev_hash", "hash")}


def _clean(value: Any) -> Any:
    """Text that can be printed and hashed; what was no UTF-8 becomes something else."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _streamed(connection: Connection, query: Select[Any]) -> Generator[Any, None, None]:
    with connection.execute(query, execution_options={"yield_per": 2_000}) as rows:
        yield from rows


def _all(connection: Connection, table: Table) -> Sequence[Row]:
    rows = connection.execute(select(table)).mappings()
    return [{name: _clean(value) for name, value in row.items()} for row in rows]


def _by_number(connection: Connection, table: Table) -> dict[int, Row]:
    return {row["seq"]: row for row in _all(connection, table)}


@contextmanager
def _any_text(connection: Connection) -> Iterator[None]:
    """Read text that is no UTF-8 any more: a wrong bit must be named, not stop the check."""
    raw = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        yield
        return
    raw.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        raw.text_factory = str
