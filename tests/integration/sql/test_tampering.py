from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
)

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.adapters.sql.tables import ledger, measured, rates
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
MONTH = 31 * 24 * HOUR
ENTRY = [c.name for c in ledger.entry.columns]
BATCH = [c.name for c in ledger.batch.columns]
ACCOUNT = [c.name for c in ledger.account.columns]
PERIOD = [c.name for c in ledger.period.columns if c.name not in ("closed_us", "closed_by")]
"""Who closed a period and when is a note; nothing depends on it."""


@pytest.fixture
def posted(books: Bookkeeping) -> Bookkeeping:
    """Two replicas' hours, one energy metered; January is closed, and late data corrected it."""
    for number in range(2):
        name = f"serve/shop/{number}"
        books.post(
            Resource(name, "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
            SupplyWindow(name, "boot", 1, name, 0, HOUR, HOUR, None,
                         *((10**9, "metered_wall") if number else (None, "unknown"))),
            UsageWindow(name, "boot", 2, name, 0, HOUR, "a", 1 + number, "inference", "serve",
                        requests=1, busy_ns=600 * 10**9),
        )  # fmt: skip
    books.clock.at_us = MONTH + HOUR
    books.books.close("1970-01", "ada")
    late = UsageWindow("serve/shop/0", "boot", 3, "serve/shop/0", 0, HOUR, "b", 1, "inference",
                       "serve", busy_ns=300 * 10**9)  # fmt: skip
    assert books.post(late) > 0
    assert books.ledger.first_break() is None
    return books


Tamper = Callable[[Table, str], AbstractContextManager[None]]


@pytest.fixture
def tamper(books: Bookkeeping) -> Tamper:
    """Writes into a table as an owner who switched everything off; puts it back afterwards."""
    engine = books.engine

    @contextmanager
    def write(table: Table, statement: str) -> Iterator[None]:
        with engine.connect() as connection:
            kept = connection.execute(select(table)).mappings().all()
        _write(engine, text(statement))
        yield
        _write(engine, delete(table))
        _write(engine, insert(table), [dict(row) for row in kept])

    return write


def _write(engine: Engine, statement: Executable, rows: Sequence[dict[str, Any]] = ()) -> None:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("set session_replication_role = replica"))
        else:
            connection.exec_driver_sql("rollback")
            connection.exec_driver_sql("pragma foreign_keys = off")
            connection.exec_driver_sql("begin")
            _drop_triggers(connection)
        if rows:
            connection.execute(statement, rows)
        else:
            connection.execute(statement)
        connection.commit()
        connection.invalidate()


def _drop_triggers(connection: Connection) -> None:
    query = text("select name from sqlite_master where type = 'trigger'")
    for name in connection.execute(query).scalars().all():
        connection.execute(text(f"drop trigger {name}"))


def _changed(table: Table, column: str) -> str:
    """An expression that differs from the stored value in one byte, or in one unit."""
    name = f"{table.name}.{column}"
    if isinstance(table.c[column].type, Text):
        return f"coalesce({name} || 'x', 'x')"
    return f"coalesce({name}, 0) + 1000000"


def _named(kept: LedgerStore) -> int:
    found = kept.first_break()
    assert found is not None
    return found.seq


def test_any_changed_column_of_an_entry_is_named(posted: Bookkeeping, tamper: Tamper) -> None:
    """First, last and one between: the number of the entry is in the answer (A16)."""
    head = posted.ledger.head()
    assert head is not None
    for column in ENTRY:
        for seq in (1, 9, head.seq):
            change = _changed(ledger.entry, column)
            with tamper(ledger.entry, f"update entry set {column} = {change} where seq = {seq}"):
                assert _named(posted.ledger) == seq, column
    assert posted.ledger.first_break() is None


def test_any_changed_column_of_a_batch_names_its_first_entry(
    posted: Bookkeeping, tamper: Tamper
) -> None:
    """A batch says why, by whom and of what its entries were made (A16)."""
    rows = [(entry["batch_id"], entry["seq"]) for entry in posted.ledger.entries()]
    batch_id = rows[-1][0]
    first = next(seq for one, seq in rows if one == batch_id)
    for column in BATCH:
        change = _changed(ledger.batch, column)
        with tamper(
            ledger.batch, f"update batch set {column} = {change} where batch_id = '{batch_id}'"
        ):
            assert _named(posted.ledger) == first, column
    assert posted.ledger.first_break() is None


def test_any_changed_column_of_an_account_names_the_first_entry_that_touches_it(
    posted: Bookkeeping, tamper: Tamper
) -> None:
    """Cost cannot be moved to another model, version or phase by renaming who paid (A16)."""
    a, e = ledger.account, ledger.entry
    for role in ("consumer", "idle", "supply", "pool", "overhead"):
        with posted.engine.connect() as connection:
            number = connection.execute(select(func.max(a.c.account_id)).where(a.c.role == role))
            number = number.scalar_one()
            either = (e.c.debit_account == number) | (e.c.credit_account == number)
            first = connection.execute(select(func.min(e.c.seq)).where(either)).scalar_one()
        for column in ACCOUNT:
            change = _changed(a, column)
            statement = f"update account set {column} = {change} where account_id = {number}"
            with tamper(a, statement):
                assert _named(posted.ledger) == first, (role, column)
    assert posted.ledger.first_break() is None


def test_a_changed_period_is_named_with_the_entry_it_was_closed_at(
    posted: Bookkeeping, tamper: Tamper
) -> None:
    """Totals of a closed month, its bounds and its state stay what they were (A16)."""
    closing = next(p.closing_seq for p in posted.periods.all() if p.status == "closed")
    head = posted.ledger.head()
    assert head is not None
    for column in PERIOD:
        chosen = {"totals": "'{}'", "status": "'open'"}
        change = chosen.get(column) or _changed(ledger.period, column)
        where = "where period_id = '1970-01'"
        with tamper(ledger.period, f"update period set {column} = {change} {where}"):
            # A name that no entry knows is noticed where the first entry misses its month.
            expected = {"period_id": closing, "closing_seq": head.seq}.get(column, closing)
            assert _named(posted.ledger) == expected, column
    assert posted.ledger.first_break() is None


@pytest.mark.parametrize("column", ["amount", "tier", "account_id"])
def test_a_changed_balance_is_found_and_can_be_rebuilt(
    posted: Bookkeeping, tamper: Tamper, column: str
) -> None:
    """Sums are derived: the entries decide, the sums are made anew from them."""
    before = posted.ledger.balances()
    with posted.engine.connect() as connection:
        query = select(func.min(projections.balance.c.account_id)).where(
            projections.balance.c.amount != 0
        )
        number = connection.execute(query).scalar_one()
    change = _changed(projections.balance, column)
    statement = f"update balance set {column} = {change} where account_id = {number}"
    with tamper(projections.balance, statement):
        found = posted.ledger.first_break()
        assert found is not None and "rebuild" in found.what
        posted.ledger.rebuild()
        assert posted.ledger.first_break() is None
        assert posted.ledger.balances() == before


@pytest.mark.parametrize(
    "table", [measured.supply_window, measured.usage_window], ids=lambda table: table.name
)
def test_any_changed_column_of_a_window_names_the_entry_that_it_was_charged_by(
    posted: Bookkeeping, tamper: Tamper, table: Table
) -> None:
    """What was measured cannot be rewritten under the entries that were worked out from it."""
    key = f"(select min(idem_key) from {table.name} where resource_id = 'serve/shop/1')"
    for column in (c.name for c in table.columns if c.name != "received_us"):
        change = _changed(table, column)
        if column == "flop" and posted.engine.dialect.name == "sqlite":
            change = "'7'"
        with tamper(table, f"update {table.name} set {column} = {change} where idem_key = {key}"):
            entry = next(e for e in posted.ledger.entries() if e["seq"] == _named(posted.ledger))
            batch = posted.ledger.batch(entry["batch_id"])
            assert batch is not None and batch.subject == "serve/shop/1@0", column
    assert posted.ledger.first_break() is None


def test_a_window_that_is_gone_or_was_slipped_in_is_found(
    posted: Bookkeeping, tamper: Tamper
) -> None:
    """Neither less nor more was measured than what was charged."""
    u = "usage_window"
    with tamper(measured.usage_window, f"delete from {u} where resource_id = 'serve/shop/1'"):
        assert "windows" in posted.ledger.first_break().what  # type: ignore[union-attr]
    with tamper(measured.usage_window, f"update {u} set resource_id = 'serve/shop/1'"):
        assert posted.ledger.first_break() is not None
    assert posted.ledger.first_break() is None


def test_a_changed_price_or_coefficient_names_the_first_entry_that_cites_it(
    posted: Bookkeeping, tamper: Tamper
) -> None:
    """A figure that money or carbon rests on is known by the digest of its row."""
    for table, key, cited in (
        (rates.price, "price_id", "price_id"),
        (rates.coefficient, "coef_id", "coef_ids"),
    ):
        kept = {e["seq"]: e[cited] for e in posted.ledger.entries() if e[cited]}
        first = min(kept)
        one = kept[first] if isinstance(kept[first], str) else kept[first][0]
        for column in (c.name for c in table.columns if c.name not in (key, "recorded_us")):
            change = {"kind": "'spot'"}.get(column) or _changed(table, column)
            with tamper(
                table, f"update {table.name} set {column} = {change} where {key} = '{one}'"
            ):
                assert _named(posted.ledger) == first, column
    assert posted.ledger.first_break() is None


def test_a_deleted_entry_is_named(posted: Bookkeeping, tamper: Tamper) -> None:
    """A hole in the numbers is found where it begins (A16)."""
    for seq in (1, 7):
        with tamper(ledger.entry, f"delete from entry where seq = {seq}"):
            assert _named(posted.ledger) == seq


def test_two_swapped_entries_are_named(posted: Bookkeeping, tamper: Tamper) -> None:
    """The order is part of what is hashed (A16)."""
    with tamper(ledger.entry, "update entry set seq = -1 where seq = 4"):
        _write(posted.engine, text("update entry set seq = 4 where seq = 5"))
        _write(posted.engine, text("update entry set seq = 5 where seq = -1"))
        assert _named(posted.ledger) == 4


def test_a_batch_or_account_that_is_gone_is_named(posted: Bookkeeping, tamper: Tamper) -> None:
    """An entry is not left out of the check because what it points to was deleted."""
    batch = "delete from batch where batch_id = (select batch_id from entry where seq = 1)"
    with tamper(ledger.batch, batch):
        assert _named(posted.ledger) == 1
    with tamper(ledger.account, "delete from account where path = 'overhead:pue'"):
        first = next(e["seq"] for e in posted.ledger.entries() if e["debit"] is None)
        assert _named(posted.ledger) == first
