"""What ingestion notes down beside a window, so that nobody has to search all windows later."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, tuple_

from steelyard.adapters.sql.insert import chunks, insert_into, insert_new, insert_rows
from steelyard.adapters.sql.rollups import NO_VERSION, add_boots, add_usage
from steelyard.adapters.sql.silence import note_inferred
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.silence import COLLECTOR

Rows = Sequence[Mapping[str, Any]]


def note_supply(connection: Connection, rows: Rows) -> set[tuple[str, int]]:
    """New supply windows wait for posting; their resources are alive. Returns their places.

    Those that were inferred are no sign of life.
    """
    if not rows:
        return set()
    names = ("idem_key", "window_start_us")
    insert_rows(
        connection, measured.waiting_window, [{name: row[name] for name in names} for row in rows]
    )
    add_boots(connection, rows)
    _seen(connection, [row for row in rows if row["producer_id"] != COLLECTOR])
    note_inferred(connection, [row for row in rows if row["producer_id"] == COLLECTOR])
    return {(row["resource_id"], row["window_start_us"]) for row in rows}


def _seen(connection: Connection, rows: Rows) -> None:
    if not rows:
        return
    last: dict[str, int] = {}
    for row in rows:
        last[row["resource_id"]] = max(last.get(row["resource_id"], 0), row["window_end_us"])
    lite = connection.dialect.name == "sqlite"
    new = insert_into(connection, measured.resource_seen)
    most = func.max if lite else func.greatest
    later = most(measured.resource_seen.c.last_us, new.excluded.last_us)
    connection.execute(
        new.on_conflict_do_update(index_elements=["resource_id"], set_={"last_us": later}),
        [{"resource_id": key, "last_us": at} for key, at in last.items()],
    )


def note_usage(connection: Connection, rows: Rows, supplied: set[tuple[str, int]]) -> None:
    """New usage is summed, owns its resource, and is late if its supply window came before.

    ``supplied`` are the supply windows of the same report, which are posted with it.
    """
    if not rows:
        return
    add_boots(connection, rows)
    add_usage(connection, rows)
    owners = {
        (row["resource_id"], row["model"], row["version"] or NO_VERSION, row["phase"],
         row["run_id"] or "" if row["version"] is None else "")
        for row in rows
    }  # fmt: skip
    names = ("resource_id", "model", "version", "phase", "run_id")
    new = insert_new(
        connection, measured.resource_owner,
        [dict(zip(names, owner, strict=True)) for owner in sorted(owners)], names,
    )  # fmt: skip
    _charge_anew(connection, sorted({owner[0] for owner in new}))
    apart = [r for r in rows if (r["resource_id"], r["window_start_us"]) not in supplied]
    late = _with_supply(connection, apart)
    columns = ("idem_key", "resource_id", "window_start_us")
    insert_new(
        connection, measured.late_usage, [{name: row[name] for name in columns} for row in late],
        ("idem_key",),
    )  # fmt: skip


def _charge_anew(connection: Connection, resources: Sequence[str]) -> None:
    """Posted windows of resources that have a new owner wait again: their idle time is its."""
    s, p, w = measured.supply_window, ledger.posted_window, measured.waiting_window
    for chunk in chunks(resources):
        posted = (
            select(s.c.idem_key, s.c.window_start_us)
            .join(p, p.c.idem_key == s.c.idem_key)
            .outerjoin(w, w.c.idem_key == s.c.idem_key)
            .where(s.c.resource_id.in_(chunk), w.c.idem_key.is_(None))
        )
        connection.execute(insert(w).from_select(["idem_key", "window_start_us"], posted))


def _with_supply(connection: Connection, rows: Rows) -> Rows:
    s = measured.supply_window
    places = sorted({(row["resource_id"], row["window_start_us"]) for row in rows})
    found: set[tuple[str, int]] = set()
    for chunk in chunks(places):
        query = select(s.c.resource_id, s.c.window_start_us).where(
            tuple_(s.c.resource_id, s.c.window_start_us).in_(chunk)
        )
        found |= {(row[0], row[1]) for row in connection.execute(query)}
    return [row for row in rows if (row["resource_id"], row["window_start_us"]) in found]
