"""Inserting and looking up many rows, on both dialects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Table, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

T = TypeVar("T")
CHUNK = 500
"""Keys in one look-up: SQLite takes 32,766 bound values a statement."""


def chunks(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """The keys in pieces that fit into one statement each."""
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An ``INSERT`` of the connection's dialect, which knows ``ON CONFLICT``."""
    return insert_for(connection.dialect.name, table)


def insert_for(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The same for a dialect's name."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def insert_rows(
    connection: Connection, into: Insert | Table, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Insert rows that all have the same columns; how many the database took.

    Each row's values go to the driver as they are: SQLAlchemy would build a parameter set for
    every row, which costs as much as the insert itself. A statement that is used often is built
    once, for its text is kept by the object.
    """
    if not rows:
        return 0
    compiled = _compiled(into, connection.dialect, tuple(rows[0]))
    given: Sequence[Mapping[str, Any]] = rows
    if compiled.exact:
        act = compiled.exact.items()
        given = [{**row, **{name: to(row[name]) for name, to in act}} for row in rows]
    order = compiled.order
    values: Any = list(map(itemgetter(*order), given)) if len(order) > 1 else list(given)
    return connection.exec_driver_sql(compiled.text, values).rowcount


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement's text, the order of its values (none: by name), and how to convert some."""

    text: str
    order: tuple[str, ...]
    exact: Mapping[str, Callable[[Any], Any]]


@lru_cache(maxsize=128)
def _compiled(into: Insert | Table, dialect: Dialect, names: tuple[str, ...]) -> _Compiled:
    statement = insert(into) if isinstance(into, Table) else into
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))
    columns = statement.table.columns
    exact = {name: to for name in names if (to := _converter(columns[name].type, dialect))}
    return _Compiled(str(compiled), tuple(compiled.positiontup or ()), exact)


def _converter(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keys: tuple[str, ...]
) -> set[tuple[Any, ...]]:
    """``INSERT … ON CONFLICT DO NOTHING``; the keys of the rows that were really inserted.

    Of several rows with one key the first. Nobody else writes meanwhile (``database.writing``),
    so what was not there before and is there now was inserted here.
    """
    firsts: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        firsts.setdefault(tuple(row[key] for key in keys), row)
    known = existing(connection, table, keys, list(firsts))
    new = {key: row for key, row in firsts.items() if key not in known}
    taken = insert_rows(connection, _if_new(connection.dialect.name, table), list(new.values()))
    return set(new) if taken == len(new) else existing(connection, table, keys, list(new))


@lru_cache
def _if_new(dialect: str, table: Table) -> Insert:
    return insert_for(dialect, table).on_conflict_do_nothing()


def existing(
    connection: Connection, table: Table, keys: tuple[str, ...], wanted: Sequence[tuple[Any, ...]]
) -> set[tuple[Any, ...]]:
    """Those of the wanted keys that the table has."""
    columns = [table.c[key] for key in keys]
    found: set[tuple[Any, ...]] = set()
    for chunk in chunks(wanted):
        if len(columns) == 1:
            among = columns[0].in_([key[0] for key in chunk])
        else:
            among = tuple_(*columns).in_(chunk)
        found |= {tuple(row) for row in connection.execute(select(*columns).where(among))}
    return found
