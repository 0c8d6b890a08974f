"""Inserting and looking up many rows, on both dialects."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")
CHUNK = 500
"""Keys in one look-up: SQLite takes 32,766 bound values a statement."""


def chunks(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """The keys in pieces that fit into one statement each."""
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An ``INSERT`` of the connection's dialect, which knows ``ON CONFLICT``."""
    lite = connection.dialect.name == "sqlite"
    return sqlite.insert(table) if lite else postgresql.insert(table)


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keys: tuple[str, ...]
) -> set[tuple[Any, ...]]:
    """``INSERT … ON CONFLICT DO NOTHING``; the keys of the rows that were really inserted."""
    if not rows:
        return set()
    columns = [table.c[key] for key in keys]
    statement = insert_into(connection, table).on_conflict_do_nothing().returning(*columns)
    return {tuple(row) for row in connection.execute(statement, list(rows))}
