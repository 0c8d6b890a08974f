"""Insert rows that are not there yet, on both dialects."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

CHUNK = 500
"""Rows a statement: SQLite takes 32,766 bound values."""


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keys: tuple[str, ...]
) -> set[tuple[Any, ...]]:
    """``INSERT … ON CONFLICT DO NOTHING``; the keys of the rows that were really inserted."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    inserted: set[tuple[Any, ...]] = set()
    columns = [table.c[key] for key in keys]
    for start in range(0, len(rows), CHUNK):
        chunk = [dict(row) for row in rows[start : start + CHUNK]]
        statement = dialect.insert(table).values(chunk).on_conflict_do_nothing().returning(*columns)
        inserted |= {tuple(row) for row in connection.execute(statement)}
    return inserted
