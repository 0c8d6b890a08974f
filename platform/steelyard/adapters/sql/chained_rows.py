"""Rows that each carry the hash of the row before: appending one, and checking them all."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, insert, select

from steelyard.domain.hash_chain import GENESIS, Break, first_break, link


def append_chained(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Add a row behind the newest; its number, the hash before it and its own are made here."""
    last = connection.execute(
        select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)
    ).one_or_none()
    whole = {**row, "seq": last.seq + 1 if last else 1, "prev_hash": last.hash if last else GENESIS}
    whole["hash"] = link(whole["prev_hash"], _hashed(table, whole))
    connection.execute(insert(table), whole)


def first_broken(connection: Connection, tables: Iterable[Table]) -> tuple[str, Break] | None:
    """Recompute the chains of tables: the first one's name and the first row that does not hold."""
    for table in tables:
        rows = connection.execute(select(table).order_by(table.c.seq)).mappings()
        found = first_break((_hashed(table, r), r["prev_hash"], r["hash"]) for r in rows)
        if found:
            return table.name, found
    return None


def _hashed(table: Table, row: Mapping[str, Any] | RowMapping) -> dict[str, Any]:
    names = [c.name for c in table.columns if c.name not in ("prev_hash", "hash")]
    return {**{name: row[name] for name in names}, "v": 1}
