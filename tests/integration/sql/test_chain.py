import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.domain.hash_chain import Break
from steelyard.domain.ledger import Account, Batch, Transfer

pytestmark = pytest.mark.integration

POOL = Account("pool:r", "pool")
USER = Account("model:m/1:inference:serve", "consumer", "inference", "m", 1, "serve")


def _batch(subject: str, *amounts: int) -> Batch:
    transfers = tuple(Transfer("nUSD", amount, USER, POOL, "price", ("c",)) for amount in amounts)
    return Batch("allocation", "busy_share", 1, subject, 0, 1, 0, "0" * 64, "test", "test",
                 transfers)  # fmt: skip


@pytest.fixture
def ledger(engine: Engine) -> LedgerStore:
    """Five entries in two batches."""
    store = LedgerStore(engine)
    assert store.post(_batch("one", 10, 20, 30), 100) == 3
    assert store.post(_batch("two", 40, 50), 200) == 2
    return store


def _tamper(engine: Engine, statement: str) -> None:
    """Write as an owner who switches the triggers off."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("alter table entry disable trigger user"))
        else:
            names = connection.execute(
                text("select name from sqlite_master where type = 'trigger'")
            ).scalars()
            for name in names.all():
                connection.execute(text(f"drop trigger {name}"))
        connection.execute(text(statement))


def test_an_untouched_ledger_holds(ledger: LedgerStore) -> None:
    """Every hash is recomputed from the stored row."""
    assert ledger.first_break() is None
    head = ledger.head()
    assert head is not None and head.seq == 5


def test_posting_a_batch_again_adds_nothing(ledger: LedgerStore) -> None:
    """The same work has the same id, whoever repeats it and whenever."""
    head = ledger.head()
    assert ledger.post(_batch("two", 40, 50), 300) == 0
    assert ledger.head() == head


@pytest.mark.parametrize(
    "change", ["amount = 31", "price_id = 'Price'", "coef_ids = 'c,d'", "recorded_us = 101"]
)
def test_a_changed_entry_is_named(ledger: LedgerStore, engine: Engine, change: str) -> None:
    """One changed value anywhere in an entry names its number."""
    _tamper(engine, f"update entry set {change} where seq = 3")
    assert ledger.first_break() == Break(3, "its content was changed after it was written")


def test_a_deleted_entry_is_named(ledger: LedgerStore, engine: Engine) -> None:
    """A hole in the numbers is found where it begins."""
    _tamper(engine, "delete from entry where seq = 2")
    found = ledger.first_break()
    assert found is not None and found.seq == 2


def test_a_cut_tail_differs_from_the_head_that_was_noted(
    ledger: LedgerStore, engine: Engine
) -> None:
    """The rest still holds: only the head that a statement printed shows what is gone."""
    noted, before = ledger.head(), ledger.balances("m")
    _tamper(engine, "delete from entry where seq = 5")
    assert ledger.first_break() is None
    assert ledger.head() != noted
    assert [b.amount for b in ledger.balances("m")] == [before[0].amount - 50]


def test_an_unsound_entry_leaves_no_trace(ledger: LedgerStore, engine: Engine) -> None:
    """Nothing is posted into a closed period; the whole batch goes with it."""
    head = ledger.head()
    with engine.begin() as connection:
        connection.execute(text("update period set status = 'closed'"))
    with pytest.raises(IntegrityError, match="not sound"):
        ledger.post(_batch("three", 60), 300)
    assert ledger.head() == head
    assert ledger.revision("allocation", "busy_share", "three") == 0
