from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.domain.ledger import Account, Batch, Posting, Transfer

pytestmark = pytest.mark.integration

POOL = Account("pool:r", "pool")
USER = Account("model:m/1:inference:serve", "consumer", "inference", "m", 1, "serve")


def _posting(subject: str, *amounts: int) -> Posting:
    transfers = tuple(Transfer("nUSD", amount, USER, POOL, "price", ("c",)) for amount in amounts)
    batch = Batch("allocation", "busy_share", 1, subject, 0, 1, "0" * 64, "test", "test",
                  transfers)  # fmt: skip
    return Posting((batch,), revision=0)


@pytest.fixture
def ledger(engine: Engine) -> LedgerStore:
    """Five entries in two batches."""
    store = LedgerStore(engine)
    assert store.post([_posting("one", 10, 20, 30)], 100) == 3
    assert store.post([_posting("two", 40, 50)], 200) == 2
    return store


def test_an_untouched_ledger_holds(ledger: LedgerStore) -> None:
    """Every hash is recomputed from the stored row."""
    assert ledger.first_break() is None
    head = ledger.head()
    assert head is not None and head.seq == 5


def test_every_entry_hashes_the_one_before_it(ledger: LedgerStore) -> None:
    """Anybody can recompute the chain from an export, with nothing but sha256 (A16)."""
    entries = list(ledger.entries())
    previous = "0" * 64
    for entry in entries:
        numbers = (
            f'{{"amount":"{entry["amount"]}","batch_id":"{entry["batch_id"]}",'
            f'"batch_sha256":"{entry["batch_sha256"]}","coef_ids":["c"],"credit":"pool:r",'
            f'"debit":"model:m/1:inference:serve","idem_key":"{entry["idem_key"]}",'
            f'"period_end_us":"1","period_id":"1970-01","period_start_us":"0",'
            f'"price_id":"price","recorded_us":"{entry["recorded_us"]}","reverses_seq":null,'
            f'"seq":{entry["seq"]},"tier":null,"unit":"nUSD","v":2}}'
        )
        previous = sha256(f"{previous}\n{numbers}".encode()).hexdigest()
        assert previous == entry["hash"]


def test_posting_a_batch_again_adds_nothing(ledger: LedgerStore) -> None:
    """The same work has the same id, whoever repeats it and whenever."""
    head = ledger.head()
    assert ledger.post([_posting("two", 40, 50)], 300) == 0
    assert ledger.head() == head


def test_postings_of_one_transaction_enter_together_or_not_at_all(
    ledger: LedgerStore, engine: Engine
) -> None:
    """Nothing is posted into a closed period; what was to be posted with it stays out too."""
    head, balances = ledger.head(), ledger.balances()
    with engine.begin() as connection:
        connection.execute(text("update period set status = 'closed'"))
    good = _posting("three", 60)
    later = replace(good.batches[0], subject="four", period_start_us=10**15, period_end_us=2)
    with pytest.raises(IntegrityError):
        ledger.post([good, replace(good, batches=(later,))], 300)
    assert ledger.head() == head
    assert ledger.balances() == balances
    assert ledger.revision("busy_share", "three") == 0


def test_of_two_that_were_worked_out_at_once_one_is_posted(ledger: LedgerStore) -> None:
    """Both counted on the same number of earlier batches; the second finds one more."""
    first, second = _posting("three", 60), _posting("three", 61)
    assert ledger.post([first, second], 300) == 1
    assert [t.amount for b in ledger.batches("three") for t in ledger.transfers(b.batch_id)] == [60]


def _cut_the_tail(engine: Engine) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("alter table entry disable trigger user"))
        else:
            connection.execute(text("drop trigger entry_no_delete"))
        connection.execute(text("delete from entry where seq = 5"))


def test_a_cut_tail_differs_from_the_head_that_was_noted(
    ledger: LedgerStore, engine: Engine
) -> None:
    """The rest still holds when sums are cut too: only a head kept elsewhere shows it (A16)."""
    noted = ledger.head()
    _cut_the_tail(engine)
    cut = ledger.first_break()
    assert cut is not None and "balances" in cut.what
    ledger.rebuild()
    assert ledger.first_break() is None
    assert ledger.head() != noted


def test_a_cut_behind_a_published_head_is_found(ledger: LedgerStore, engine: Engine) -> None:
    """The ledger publishes its head once a day; cutting below it is named (A16)."""
    ledger.publish_head(300)
    _cut_the_tail(engine)
    ledger.rebuild()
    found = ledger.first_break()
    assert found is not None and found.seq == 5 and "1970-01-01" in found.what
