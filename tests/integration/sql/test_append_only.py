import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, Table, Text, insert, select, text
from sqlalchemy.exc import IntegrityError

from steelyard.adapters.sql.schema import APPEND_ONLY, SCHEMA
from steelyard.adapters.sql.tables.ledger import account, period
from steelyard.domain.hash_chain import GENESIS

pytestmark = pytest.mark.integration

VALUES: dict[str, Any] = {
    "prev_hash": GENESIS, "window_end_us": 2, "period_end_us": 2, "energy_method": "metered_wall",
    "credit_account": 2, "reverses_seq": None,
}  # fmt: skip
CHOSEN: dict[str, dict[str, Any]] = {
    "period": {"status": "open", "end_us": 2}, "price": {"kind": "spot"},
    "budget": {"scope_kind": "team", "kind": "limit"},
    "evidence": {"origin": "measured"}, "api_key": {"told": "all"},
    "alias_drift": {"verb": "found"},
    # Segment 1 is erased, and what was in it may go.
    "prediction": {"segment": 2}, "prediction_aside": {"segment": 2},
}  # fmt: skip


def _row(table: Table) -> dict[str, Any]:
    """A row that satisfies every check: the number 1 and the text "1" wherever any value does."""
    row = {
        c.name: VALUES.get(c.name, "1" if isinstance(c.type, Text) else 1) for c in table.columns
    }
    return row | CHOSEN.get(table.name, {})


def _content(engine: Engine) -> dict[str, Sequence[Any]]:
    with engine.connect() as connection:
        return {t.name: connection.execute(select(t)).all() for t in (*APPEND_ONLY, period)}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A database with one row in every table."""
    with engine.begin() as connection:
        for table in SCHEMA.sorted_tables:
            connection.execute(insert(table), _row(table))
            if table is account:
                connection.execute(insert(table), {**_row(table), "account_id": 2, "path": "2"})
    assert all(_content(engine).values())
    return engine


def _refused(engine: Engine, statement: str) -> None:
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))


def test_a_fact_is_never_changed(filled: Engine) -> None:
    """UPDATE is refused in every table of facts, whoever sends it."""
    before = _content(filled)
    for table in APPEND_ONLY:
        column = list(table.columns)[-1].name
        _refused(filled, f"update {table.name} set {column} = {column}")
    assert _content(filled) == before


def test_a_fact_is_never_deleted(filled: Engine) -> None:
    """DELETE is refused in every table of facts."""
    before = _content(filled)
    for table in APPEND_ONLY:
        _refused(filled, f"delete from {table.name}")
    assert _content(filled) == before


def test_facts_are_never_truncated(filled: Engine) -> None:
    """PostgreSQL's TRUNCATE fires no DELETE trigger; it has a trigger of its own."""
    if filled.dialect.name != "postgresql":
        pytest.skip("SQLite has no TRUNCATE")
    before = _content(filled)
    for table in APPEND_ONLY:
        _refused(filled, f"truncate {table.name} cascade")
    assert _content(filled) == before


def test_replacing_a_fact_leaves_it_as_it_was(filled: Engine) -> None:
    """SQLite's INSERT OR REPLACE deletes without a DELETE trigger on a foreign connection (A21).

    A period is not replaced either: a closed one would be open again.
    """
    if filled.dialect.name != "sqlite":
        pytest.skip("only SQLite has INSERT OR REPLACE")
    before = _content(filled)
    foreign = sqlite3.connect(str(filled.url.database))
    for table in (*APPEND_ONLY, period):
        kept = {c.name for c in table.primary_key} | {"prev_hash", "seq", "unit"}
        row = {
            name: value if name in kept or not isinstance(value, str) else f"other {value}"
            for name, value in _row(table).items()
            if name != "energy_mj"
        }
        if "energy_method" in row:
            row["energy_method"] = "unknown"
        row |= CHOSEN.get(table.name, {})
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"insert or replace into {table.name} ({names}) values ({marks})"
        with suppress(sqlite3.IntegrityError):  # refused aloud, or ignored
            foreign.execute(statement, list(row.values()))
    foreign.commit()
    foreign.close()
    assert _content(filled) == before


def test_an_entry_out_of_its_chain_is_refused(filled: Engine) -> None:
    """A chained row has the next number and the hash of the row before it."""
    for table in (t for t in APPEND_ONLY if "prev_hash" in t.c):
        for wrong in ({"seq": 3, "prev_hash": "1"}, {"seq": 2, "prev_hash": GENESIS}):
            row = {**_row(table), "hash": "2", "idem_key": "2", "boot_id": "2", **wrong}
            row["segment"] = 2
            values = {c.name: row[c.name] for c in table.c}
            with pytest.raises(IntegrityError, match="chain"), filled.begin() as connection:
                connection.execute(insert(table), values)
