"""Predictions on their way into SQL: each gets a place in a segment, each segment one in a chain.

What a replica sealed is stored under its own seal. Predictions without one (of earlier replicas)
are sealed here. Every record of a seal is kept, because the seal is over all of them: one whose
id is taken (the edge tried a request twice) or that claims to come from the future is set aside.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from steelyard.adapters.sql.insert import existing, insert_into, insert_new, insert_rows
from steelyard.adapters.sql.quarantine import keep_aside_future
from steelyard.adapters.sql.tables import audit
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import (
    FORMAT,
    Links,
    SegmentSeal,
    record_bytes,
    record_fields,
    segment_digest,
)
from steelyard.domain.errors import InvalidInput
from steelyard.domain.facts import AHEAD_US, Fact
from steelyard.domain.hash_chain import GENESIS, link

SEALED_BY_LEDGER = "ledger"
"""The boot of segments that no replica sealed."""
HEAD = "prediction_segment"


class Added(NamedTuple):
    """How many predictions were new, known already, and set aside as from the future."""

    new: int = 0
    known: int = 0
    future: int = 0


def add_predictions(connection: Connection, facts: Iterable[Fact], now_us: int) -> Added:
    """Store the predictions of one report, under the seal that came with them if one did.

    Raises:
        InvalidInput: they are not those that were sealed, or another segment has the place.
    """
    records = [fact for fact in facts if isinstance(fact, PredictionRecord)]
    seals = [fact for fact in facts if isinstance(fact, SegmentSeal)]
    if not seals:
        return _unsealed(connection, records, now_us)
    if any(seal != seals[0] for seal in seals):
        raise InvalidInput("A report with several seals does not say whose its predictions are.")
    return _sealed(connection, records, seals[0], now_us)


def _sealed(
    connection: Connection, records: Sequence[PredictionRecord], seal: SegmentSeal, now_us: int
) -> Added:
    s, name = audit.prediction_segment, f"Segment {seal.number} of boot {seal.boot_id}"
    query = select(s.c.digest).where(s.c.boot_id == seal.boot_id, s.c.number == seal.number)
    stored = connection.execute(query).scalar_one_or_none()
    if stored is not None:
        if stored != seal.digest:
            raise InvalidInput(f"{name} is known with other predictions.")
        return Added(known=len(records))
    if len({record.model for record in records}) != 1:
        raise InvalidInput(f"{name} is not of one model.")
    if seal.v != FORMAT or seal.boot_id == SEALED_BY_LEDGER:
        raise InvalidInput(f"{name} is of a format that is not known.")
    return _store(connection, records, seal, now_us)


def _unsealed(connection: Connection, records: Sequence[PredictionRecord], now_us: int) -> Added:
    """Seal and store predictions that nobody sealed; those that are known stay as they are."""
    future = [record for record in records if _is_future(record, now_us)]
    keep_aside_future(connection, future, now_us)
    firsts: dict[str, PredictionRecord] = {}
    for record in records:
        if not _is_future(record, now_us):
            firsts.setdefault(record.prediction_id, record)
    known = existing(connection, audit.prediction, ("prediction_id",), [(key,) for key in firsts])
    models: dict[str, list[PredictionRecord]] = {}
    for key, record in firsts.items():
        if (key,) not in known:
            models.setdefault(record.model, []).append(record)
    for own in models.values():
        _store(connection, own, _seal(connection, own), now_us)
    new = len(firsts) - len(known)
    return Added(new, len(records) - len(future) - new, len(future))


def _seal(connection: Connection, records: Sequence[PredictionRecord]) -> SegmentSeal:
    s = audit.prediction_segment
    query = select(s.c.number, s.c.digest).where(s.c.boot_id == SEALED_BY_LEDGER)
    last = connection.execute(query.order_by(s.c.number.desc()).limit(1)).one_or_none()
    number, previous = (last.number + 1, last.digest) if last else (1, GENESIS)
    lines = [record_bytes(record_fields(record)) for record in records]
    digest = segment_digest(SEALED_BY_LEDGER, number, previous, lines)
    return SegmentSeal(SEALED_BY_LEDGER, number, len(records), previous, digest, "")


def _store(
    connection: Connection, records: Sequence[PredictionRecord], seal: SegmentSeal, now_us: int
) -> Added:
    seq = _append(connection, records, seal, now_us)
    links, lines = Links(seal.boot_id, seal.number, seal.previous), list[bytes]()
    rows: dict[str, dict[str, Any]] = {}
    aside: list[dict[str, Any]] = []
    for place, record in enumerate(records, start=1):
        row = record_fields(record)
        lines.append(record_bytes(row))
        row |= {
            "classes": None if record.classes is None else _classes(record.classes),
            "segment": seq, "place": place, "link": links.add(lines[-1]),
        }  # fmt: skip
        if record.prediction_id in rows or _is_future(record, now_us):
            aside.append(row)
        else:
            rows[record.prediction_id] = row
    if links.digest() != seal.digest or len(records) != seal.count:
        raise InvalidInput(
            f"Segment {seal.number} of boot {seal.boot_id} is not the one that was sealed."
        )
    new = insert_new(connection, audit.prediction, list(rows.values()), ("prediction_id",))
    aside += [row for key, row in rows.items() if (key,) not in new]
    insert_rows(connection, audit.prediction_aside, [
        {**{name: row[name] for name in ("segment", "place", "prediction_id", "link")},
         "record": lines[row["place"] - 1].decode()}
        for row in aside
    ])  # fmt: skip
    late = sum(_is_future(record, now_us) for record in records)
    return Added(len(new), len(records) - len(new) - late, late)


@lru_cache(maxsize=4096)
def _classes(classes: tuple[int, ...]) -> str:
    return json.dumps(classes)


def _is_future(record: PredictionRecord, now_us: int) -> bool:
    return record.received_us > now_us + AHEAD_US


def _append(
    connection: Connection, records: Sequence[PredictionRecord], seal: SegmentSeal, now_us: int
) -> int:
    """Put the segment's row at the end of the chain; its number there."""
    head = audit.audit_head
    query = select(head.c.seq, head.c.hash).where(head.c.chain == HEAD)
    last = connection.execute(query).one_or_none()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    # A clock that is years ahead must not keep the segment for years.
    times = [min(record.received_us, now_us + AHEAD_US) for record in records]
    segment = {
        "seq": seq, "v": seal.v, "boot_id": seal.boot_id, "number": seal.number,
        "model": records[0].model, "records": seal.count, "first_us": min(times),
        "last_us": max(times), "previous": seal.previous, "digest": seal.digest,
        "recorded_us": now_us,
    }  # fmt: skip
    hashed = link(previous, segment)
    row = {**segment, "prev_hash": previous, "hash": hashed}
    insert_rows(connection, audit.prediction_segment, [row])
    new = insert_into(connection, head).values(chain=HEAD, seq=seq, hash=hashed)
    connection.execute(new.on_conflict_do_update(
        index_elements=["chain"], set_={"seq": seq, "hash": hashed}
    ))  # fmt: skip
    return seq
