import sqlite3
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from steelyard.domain.errors import NotFound, Refused
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
JANUARY, FEBRUARY = 31 * 24 * HOUR, (31 + 28) * 24 * HOUR
"""The ends of the first two months of 1970."""


def _hour(seq: int, start: int) -> SupplyWindow:
    return SupplyWindow("p", "boot", seq, "serve/shop/0", start, start + HOUR, HOUR)


def _busy(seq: int, model: str, start: int) -> UsageWindow:
    return UsageWindow("p", "boot", seq, "serve/shop/0", start, start + HOUR, model, 1,
                       "inference", "serve", busy_ns=600 * 10**9)  # fmt: skip


@pytest.fixture
def january(books: Bookkeeping) -> Bookkeeping:
    """A month with one hour in it, closed in February."""
    replica = Resource("serve/shop/0", "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")
    books.post(replica, _hour(1, 5 * HOUR), _busy(2, "a", 5 * HOUR))
    books.clock.at_us = JANUARY + HOUR
    books.books.close("1970-01", "ada")
    return books


def _in_january(books: Bookkeeping) -> list[dict[str, Any]]:
    return [e for e in books.ledger.entries() if e["period_id"] == "1970-01"]


def test_closing_keeps_totals_and_who_closed(january: Bookkeeping) -> None:
    """What was booked in the month, by unit, with the newest entry and the moment."""
    period = january.periods.all()[0]
    head = january.ledger.head()
    assert head is not None and period.totals is not None
    assert (period.status, period.closed_by, period.closed_us, period.closing_seq) == (
        "closed", "ada", JANUARY + HOUR, head.seq,
    )  # fmt: skip
    booked = [e["amount"] for e in _in_january(january) if e["unit"] == "nUSD"]
    assert period.totals["nUSD"] == sum(booked) == 6_000_000_000


def test_a_window_that_waits_is_posted_before_its_month_is_closed(books: Bookkeeping) -> None:
    """Nothing that had arrived is left for a correction."""
    replica = Resource("serve/shop/0", "replica", "gpu", 1, 1, "gpu-hour", 0)
    books.post(replica, _hour(1, 0))
    books.facts.ingest([_hour(2, HOUR)], books.clock.at_us)
    books.clock.at_us = JANUARY + HOUR
    books.books.close("1970-01", "ada")
    assert not books.facts.unposted()
    assert {e["period_id"] for e in books.ledger.entries()} == {"1970-01"}


def test_late_usage_of_a_closed_month_is_corrected_in_the_open_one(january: Bookkeeping) -> None:
    """The closed month keeps every entry; the correction names the hour it is about (A17)."""
    before, totals = _in_january(january), january.periods.all()[0]
    assert january.post(_busy(3, "b", 5 * HOUR)) > 0
    assert _in_january(january) == before
    assert january.periods.all()[0] == totals
    late = list(january.ledger.entries())[len(before) :]
    assert {e["period_id"] for e in late} == {"1970-02"}
    assert {(e["period_start_us"], e["period_end_us"]) for e in late} == {(5 * HOUR, 6 * HOUR)}
    kinds = {january.ledger.batch(e["batch_id"]).kind for e in late}  # type: ignore[union-attr]
    assert kinds == {"correction"}
    assert january.balances("nUSD") == {
        "model:a/1:inference:serve": 500_000_000, "model:b/1:inference:serve": 500_000_000,
        "idle:serve/shop": 2_000_000_000, "supply:serve/shop/0": -3_000_000_000,
    }  # fmt: skip
    assert january.ledger.first_break() is None


def test_a_window_that_came_after_the_close_is_a_correction_too(january: Bookkeeping) -> None:
    """A laptop that was asleep over the end of the month still pays for its hour (A17)."""
    before = _in_january(january)
    assert january.post(_hour(3, 7 * HOUR), _busy(4, "a", 7 * HOUR)) > 0
    assert _in_january(january) == before
    assert january.balances("nUSD")["supply:serve/shop/0"] == -6_000_000_000


def test_what_is_late_for_two_closed_months_goes_to_the_third(january: Bookkeeping) -> None:
    """The open period takes it, and the correction of a correction nets out (A17)."""
    january.post(_busy(3, "b", 5 * HOUR), _hour(4, JANUARY))
    january.clock.at_us = FEBRUARY + HOUR
    january.books.close("1970-02", "ada")
    february = [e for e in january.ledger.entries() if e["period_id"] == "1970-02"]
    january.post(_busy(5, "c", 5 * HOUR))
    entries = list(january.ledger.entries())
    assert [e for e in entries if e["period_id"] == "1970-02"] == february
    assert {e["period_id"] for e in entries} == {"1970-01", "1970-02", "1970-03"}
    money = january.balances("nUSD")
    assert [money[f"model:{m}/1:inference:serve"] for m in "abc"] == [500_000_000] * 3
    assert january.ledger.first_break() is None


def test_a_reversal_of_a_closed_month_s_batch_is_booked_in_the_open_one(
    january: Bookkeeping,
) -> None:
    """The mistake stays where it was made; taking it back is today's act."""
    before = _in_january(january)
    for batch_id in dict.fromkeys(e["batch_id"] for e in before):
        january.books.reverse(batch_id, "not ours", "ada")
    assert _in_january(january) == before
    assert january.balances("nUSD") == {}
    assert january.ledger.first_break() is None


def test_only_a_known_month_that_is_over_can_be_closed_and_only_once(
    january: Bookkeeping,
) -> None:
    """A month is closed by a person, once; the message says what can be closed."""
    with pytest.raises(Refused, match="is closed"):
        january.books.close("1970-01", "bob")
    with pytest.raises(NotFound, match="1969-12"):
        january.books.close("1969-12", "bob")
    january.post(_hour(3, JANUARY))
    with pytest.raises(Refused, match="not over"):
        january.books.close("1970-02", "bob")


def test_an_interrupted_close_is_finished_by_the_next(books: Bookkeeping) -> None:
    """Killed between its two steps, a month is neither lost nor stuck."""
    replica = Resource("serve/shop/0", "replica", "gpu", 1, 1, "gpu-hour", 0)
    books.post(replica, _hour(1, 0))
    books.clock.at_us = JANUARY + HOUR
    books.periods.begin_closing("1970-01")
    assert books.periods.all()[0].status == "closing"
    books.post(_hour(2, HOUR))
    assert {e["period_id"] for e in books.ledger.entries()} == {"1970-01"}
    assert books.books.close("1970-01", "ada").status == "closed"
    assert books.ledger.first_break() is None


@pytest.mark.parametrize("change", ["status = 'open'", "totals = '{}'", "closed_by = 'eve'"])
def test_nobody_opens_or_changes_a_closed_month(january: Bookkeeping, change: str) -> None:
    """The database refuses, whoever asks; deleting and replacing too (I7)."""
    before = january.periods.all()
    for statement in (f"update period set {change}", "delete from period"):
        with pytest.raises(IntegrityError), january.engine.begin() as connection:
            connection.execute(text(statement))
    if january.engine.dialect.name == "sqlite":
        foreign = sqlite3.connect(str(january.engine.url.database))
        foreign.execute(
            "insert or replace into period (period_id, start_us, end_us, status)"
            f" values ('1970-01', 0, {JANUARY}, 'open')"
        )
        foreign.commit()
        foreign.close()
    assert january.periods.all() == before


def test_the_database_itself_refuses_an_entry_in_a_closed_month(january: Bookkeeping) -> None:
    """Also one that a foreign program chains correctly (I7)."""
    columns = (
        "v, unit, amount, debit_account, credit_account, period_id, period_start_us,"
        " period_end_us, recorded_us, price_id, coef_ids, tier"
    )
    statement = (
        f"insert into entry (seq, prev_hash, hash, batch_id, idem_key, content_sha256, {columns})"
        f" select seq + 1, hash, 'h', batch_id, 'k', 'c', {columns}"
        " from entry where seq = (select max(seq) from entry)"
    )
    head = january.ledger.head()
    with pytest.raises(IntegrityError, match="not sound"), january.engine.begin() as connection:
        connection.execute(text(statement))
    assert january.ledger.head() == head
