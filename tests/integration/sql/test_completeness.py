import pytest

from steelyard.adapters.sql.facts import Completeness
from steelyard.domain.facts import Fact
from steelyard.domain.metering import (
    BootEnd,
    Resource,
    ResourceEnd,
    SupplyWindow,
    UsageWindow,
)

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
DAY = 24 * 3_600 * SECOND
REPLICA = Resource("serve/m/0", "replica", "gpu", 1, 1, "gpu-hour", 0)


def _supply(seq: int, boot: str = "boot", start: int | None = None) -> SupplyWindow:
    start = seq * 10 * SECOND if start is None else start
    return SupplyWindow("p", boot, seq, "serve/m/0", start, start + 10 * SECOND, 10 * SECOND)


def _usage(seq: int, boot: str = "boot", model: str = "m") -> UsageWindow:
    start = (seq - 1) * 10 * SECOND
    return UsageWindow("p", boot, seq, "serve/m/0", start, start + 10 * SECOND, model, 1,
                       "inference", "serve", requests=1)  # fmt: skip


def test_all_that_was_numbered_and_arrived_is_complete(books: Bookkeeping) -> None:
    """A producer that said its last number, and all rows up to it: a share of 1."""
    books.post(REPLICA, _supply(1), _usage(2), _supply(3), _usage(4), BootEnd("p", "boot", 4, 1))
    found = books.facts.completeness("m")
    assert found == Completeness(received=4, expected=4, boots=1, open_boots=0)
    assert found.share == 1.0


def test_a_gap_in_the_numbers_is_missing(books: Bookkeeping) -> None:
    """Rows 2 and 3 never came; what comes later, in any order, fills it."""
    books.post(REPLICA, _supply(5), _usage(4), _supply(1))
    assert books.facts.completeness("m").share == 0.6
    books.post(_usage(2), _supply(3))
    assert books.facts.completeness("m").share == 1.0


def test_a_tail_is_missing_only_when_the_producer_said_its_last_number(
    books: Bookkeeping,
) -> None:
    """Without a last word a boot is open: what it may have lost at its end is not known."""
    books.post(REPLICA, _supply(1), _usage(2))
    assert books.facts.completeness("m") == Completeness(2, 2, boots=1, open_boots=1)
    books.post(BootEnd("p", "boot", 4, 50 * SECOND))
    assert books.facts.completeness("m") == Completeness(2, 4, boots=1, open_boots=0)


def test_a_repeated_row_counts_once(books: Bookkeeping) -> None:
    """More rows than numbers is not more than complete."""
    books.post(REPLICA, _supply(1), _usage(2))
    books.post(REPLICA, _supply(1), _usage(2), _usage(2))
    assert books.facts.completeness().received == 2


def test_each_boot_of_a_producer_counts_from_one(books: Bookkeeping) -> None:
    """A restarted replica starts its numbers anew; another model's replicas are apart."""
    books.post(REPLICA, _supply(1), _usage(2), _supply(1, "second", DAY // 2), _usage(3, "second"))
    books.post(_supply(2, "other", DAY // 4), _usage(7, "other", "n"))
    assert books.facts.completeness("m") == Completeness(4, 5, boots=2, open_boots=2)
    assert books.facts.completeness() == Completeness(6, 12, boots=3, open_boots=3)


def test_a_boot_of_which_only_the_end_arrived_is_missing_as_a_whole(books: Bookkeeping) -> None:
    """Its segments were lost: the platform's figure says so, though no model can be named."""
    books.post(BootEnd("p", "lost", 6, 1))
    assert books.facts.completeness() == Completeness(0, 6, boots=1, open_boots=0)
    assert books.facts.completeness("m").share is None


def test_nothing_expected_is_unknown_and_not_complete(books: Bookkeeping) -> None:
    """A share of nothing is None, not 1 and not 0."""
    assert books.facts.completeness().share is None


def test_a_killed_replica_is_flagged_and_its_inferred_end_is_not(books: Bookkeeping) -> None:
    """Silence closes the resource; the boot that never said goodbye stays open."""
    books.post(REPLICA, _supply(1), _usage(2))
    books.clock.at_us = DAY
    assert books.metering.close_silent(10.0) == 1
    found = books.facts.completeness()
    assert found == Completeness(received=2, expected=2, boots=1, open_boots=1)


def test_a_report_from_the_future_is_kept_aside(books: Bookkeeping) -> None:
    """More than 24 hours ahead: an alarm, nothing is charged, and the gap shows."""
    now = books.clock.at_us
    books.post(REPLICA, _supply(1))
    ahead: list[Fact] = [_supply(2, start=now + DAY), BootEnd("p", "boot", 9, now + DAY + 1),
             ResourceEnd("serve/m/0", now + 2 * DAY)]  # fmt: skip
    result = books.facts.ingest([*ahead, _supply(3)], now)
    assert (result.new, result.conflicts) == (1, 3)
    assert books.facts.conflicts() == 3
    books.facts.ingest(ahead, now)
    assert books.facts.conflicts() == 3
    assert books.facts.completeness() == Completeness(2, 3, boots=1, open_boots=1)
    assert len(books.facts.unposted()) == 1


def test_a_clock_that_is_a_little_ahead_is_believed(books: Bookkeeping) -> None:
    """Clocks differ; up to a day is no reason to lose a window."""
    edge = _supply(1, start=books.clock.at_us + DAY - 10 * SECOND)
    assert books.facts.ingest([REPLICA, edge], books.clock.at_us).conflicts == 0


def test_two_meters_of_one_resource_book_it_once(books: Bookkeeping) -> None:
    """The same window from a second producer is kept aside, not added (A21)."""
    twin = SupplyWindow("other", "boot", 1, "serve/m/0", 10 * SECOND, 20 * SECOND, 10 * SECOND)
    books.post(REPLICA, _supply(1))
    assert books.facts.ingest([twin], books.clock.at_us).conflicts == 1
    assert books.books.post() == 0
    assert books.balances("device_us")["supply:serve/m/0"] == -10 * SECOND
