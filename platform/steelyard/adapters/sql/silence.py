"""Inferred windows in SQL: which there are, which a resource that was heard of again took back.

An inferred window that stands is its resource's end. Nothing of it is ever changed: what takes
it back is a row of ``superseded_window``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select

from steelyard.adapters.sql.insert import chunks, insert_rows
from steelyard.adapters.sql.rows import from_row
from steelyard.adapters.sql.tables import measured
from steelyard.domain.metering import Resource
from steelyard.domain.silence import COLLECTOR

IS_SUPERSEDED = exists().where(
    measured.superseded_window.c.idem_key == measured.supply_window.c.idem_key
)
"""A supply window that was inferred, and taken back."""


def note_inferred(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember new inferred windows by their resource."""
    names = [column.name for column in measured.inferred_window.columns]
    insert_rows(connection, measured.inferred_window, [{n: row[n] for n in names} for row in rows])


def supersede(connection: Connection, resources: Collection[str], now_us: int) -> None:
    """Take back the inferred windows of those resources that were heard of since.

    One that was not charged yet waits for that no more.
    """
    i, w = measured.inferred_window, measured.waiting_window
    for chunk in chunks(sorted(resources)):
        query = select(i.c.idem_key).where(
            i.c.resource_id.in_(chunk), _stands(), or_(_reaches_past(), _has_ended())
        )
        keys = list(connection.execute(query).scalars())
        rows = [{"idem_key": key, "recorded_us": now_us} for key in keys]
        insert_rows(connection, measured.superseded_window, rows)
        connection.execute(delete(w).where(w.c.idem_key.in_(keys)))


def silent(connection: Connection, before_us: int) -> Iterator[tuple[Resource, int]]:
    """Resources without an end that were last heard of before a moment, with that moment."""
    seen, r, e, i = (
        measured.resource_seen,
        measured.resource,
        measured.resource_end,
        measured.inferred_window,
    )
    moment = func.coalesce(seen.c.last_us, r.c.started_us)
    query = (
        select(r, moment.label("moment"))
        .outerjoin(seen, seen.c.resource_id == r.c.resource_id)
        .where(
            moment < before_us,
            r.c.kind != "reservation",
            ~exists().where(e.c.resource_id == r.c.resource_id, e.c.inferred == 0),
            ~exists().where(i.c.resource_id == r.c.resource_id, _stands()),
        )
    )
    for row in connection.execute(query).mappings():
        yield from_row(Resource, row), row["moment"]


def unfounded(connection: Connection) -> list[tuple[str, int]]:
    """Inferred windows that were taken back for nothing, or stand against their resource's word.

    Each as its resource and start.
    """
    i, s = measured.inferred_window, measured.supply_window
    heard = exists().where(
        s.c.resource_id == i.c.resource_id,
        s.c.window_end_us > i.c.window_start_us,
        s.c.producer_id != COLLECTOR,
    )
    heard_of = or_(heard, _has_ended())
    query = (
        select(i.c.resource_id, i.c.window_start_us)
        .where(or_(and_(_stands(), heard_of), and_(~_stands(), ~heard_of)))
        .order_by(i.c.window_start_us, i.c.resource_id)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def _stands() -> ColumnElement[bool]:
    gone = measured.superseded_window
    return ~exists().where(gone.c.idem_key == measured.inferred_window.c.idem_key)


def _reaches_past() -> ColumnElement[bool]:
    i, seen = measured.inferred_window, measured.resource_seen
    return exists().where(
        seen.c.resource_id == i.c.resource_id, seen.c.last_us > i.c.window_start_us
    )


def _has_ended() -> ColumnElement[bool]:
    i, e = measured.inferred_window, measured.resource_end
    return exists().where(e.c.resource_id == i.c.resource_id, e.c.inferred == 0)
