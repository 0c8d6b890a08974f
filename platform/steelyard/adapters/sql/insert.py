"""Insert rows that are not there yet, on both dialects."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

CHUNK = 500
"""Keys in one look-up: SQLite takes 32,766 bound values a statement."""


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keys: tuple[str, ...]
) -> set[tuple[Any, ...]]:
    """``INSERT … ON CONFLICT DO NOTHING``; the keys of the rows that were really inserted."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    if not rows:
        return set()
    columns = [table.c[key] for key in keys]
    statement = dialect.insert(table).on_conflict_do_nothing().returning(*columns)
    return {tuple(row) for row in connection.execute(statement, list(rows))}
