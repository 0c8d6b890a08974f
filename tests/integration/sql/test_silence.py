"""A resource that was thought dead and comes back: its own windows win, by themselves."""

from collections.abc import Callable

import pytest
from sqlalchemy import insert, select

from steelyard.adapters.sql.facts import Completeness
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.facts import Fact
from steelyard.domain.ledger import Posting
from steelyard.domain.metering import BootEnd, Resource, ResourceEnd, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.domain.silence import inferred_window

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
JANUARY = 31 * 24 * HOUR
HEARTBEAT_S = 30.0
UNITS = ("device_us", "nUSD", "mJ", "ugCO2e_loc")
NAME = "serve/shop/0"
REPLICA = Resource(NAME, "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")
OTHER = Resource("serve/shop/1", "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")


def _window(number: int, start: int, end: int) -> list[Fact]:
    """A window that was busy for half of its time."""
    return [
        SupplyWindow("p", "boot", 2 * number - 1, NAME, start, end, end - start),
        UsageWindow("p", "boot", 2 * number, NAME, start, end, "a", 1, "inference", "serve",
                    requests=1, busy_ns=(end - start) * 500),
    ]  # fmt: skip


EARLY = _window(1, 0, 30 * MINUTE)
LATE = [*_window(2, 30 * MINUTE, 45 * MINUTE), *_window(3, 45 * MINUTE, 80 * MINUTE)]


def _all(books: Bookkeeping) -> dict[str, dict[str, int]]:
    return {unit: books.balances(unit) for unit in UNITS}


def _thought_dead(books: Bookkeeping, at_us: int = 2 * HOUR, *, posted: bool = True) -> None:
    books.post(REPLICA, *EARLY)
    books.clock.at_us = at_us
    assert books.metering.close_silent(HEARTBEAT_S) == 1
    if posted:
        books.books.post()
        supplied = books.balances("device_us")[f"supply:{NAME}"]
        assert supplied == -30 * MINUTE - 30 * SECOND


def _assert_as_if_in_time(books: Bookkeeping, in_time: Bookkeeping, *facts: Fact) -> None:
    in_time.clock.at_us = books.clock.at_us
    in_time.post(REPLICA, *EARLY, *facts)
    assert _all(books) == _all(in_time)
    _assert_settled(books)


def _assert_settled(books: Bookkeeping) -> None:
    assert books.books.post() == 0
    assert books.facts.unposted() == [] and books.facts.late() == []
    assert books.facts.conflicts() == 0
    assert books.ledger.first_break() is None
    assert not any(path.startswith("pool:") for unit in UNITS for path in books.balances(unit))


@pytest.mark.parametrize("posted", [True, False], ids=["charged", "not charged yet"])
@pytest.mark.parametrize("apart", [True, False], ids=["one by one", "together"])
def test_windows_that_were_only_delayed_take_the_place_of_what_was_inferred(
    new_books: Callable[[], Bookkeeping], posted: bool, apart: bool
) -> None:
    """The first starts where silence began; none is kept aside, all is as if in time (I3, I4)."""
    books = new_books()
    _thought_dead(books, posted=posted)
    for part in [LATE[:2], LATE[2:]] if apart else [LATE]:
        books.post(*part)
        assert books.ledger.first_break() is None
    assert books.balances("device_us")[f"supply:{NAME}"] == -80 * MINUTE
    _assert_as_if_in_time(books, new_books(), *LATE)


def test_a_later_window_suffices_to_be_alive(books: Bookkeeping) -> None:
    """The segments between are not there yet; what they hold is charged when it comes."""
    _thought_dead(books)
    books.post(*LATE[2:])
    assert books.balances("device_us")[f"supply:{NAME}"] == -65 * MINUTE
    books.post(*LATE[:2])
    assert books.balances("device_us")[f"supply:{NAME}"] == -80 * MINUTE
    _assert_settled(books)


def test_an_earlier_window_is_no_sign_of_life(books: Bookkeeping) -> None:
    """What was measured before the silence leaves it as it is."""
    books.post(REPLICA, *LATE[:2])
    books.clock.at_us = 2 * HOUR
    assert books.metering.close_silent(HEARTBEAT_S) == 1
    books.post(*EARLY)
    assert books.balances("device_us")[f"supply:{NAME}"] == -45 * MINUTE - 30 * SECOND
    assert books.metering.close_silent(HEARTBEAT_S) == 0
    _assert_settled(books)


@pytest.mark.parametrize("posted", [True, False], ids=["charged", "not charged yet"])
def test_a_resource_s_own_end_replaces_the_inferred_one(
    new_books: Callable[[], Bookkeeping], posted: bool
) -> None:
    """It was given back when it says so: the silence after that was nobody's to pay."""
    books, end = new_books(), ResourceEnd(NAME, 30 * MINUTE)
    _thought_dead(books, posted=posted)
    books.post(end)
    assert books.balances("device_us")[f"supply:{NAME}"] == -30 * MINUTE
    books.clock.at_us = 10 * HOUR
    assert books.metering.close_silent(HEARTBEAT_S) == 0
    _assert_as_if_in_time(books, new_books(), end)


def test_the_end_of_a_delayed_boot_makes_it_complete(books: Bookkeeping) -> None:
    """What was inferred was never numbered by anybody, so it counts neither way."""
    _thought_dead(books)
    assert books.facts.completeness() == Completeness(2, 2, boots=1, open_boots=1)
    books.post(*LATE, ResourceEnd(NAME, 80 * MINUTE), BootEnd("p", "boot", 6, 80 * MINUTE))
    assert books.facts.completeness() == Completeness(6, 6, boots=1, open_boots=0)
    assert books.facts.silent_resources(10 * HOUR) == []
    _assert_settled(books)


def test_who_came_back_can_be_thought_dead_again(books: Bookkeeping) -> None:
    """Twice silent, twice one heartbeat inferred; the second stands until it is heard of again."""
    _thought_dead(books)
    books.post(*LATE[:2])
    assert [r.resource_id for r, _ in books.facts.silent_resources(2 * HOUR)] == [NAME]
    assert books.metering.close_silent(HEARTBEAT_S) == 1
    assert books.metering.close_silent(HEARTBEAT_S) == 0
    books.books.post()
    assert books.balances("device_us")[f"supply:{NAME}"] == -45 * MINUTE - 30 * SECOND
    books.post(*LATE[2:])
    assert books.balances("device_us")[f"supply:{NAME}"] == -80 * MINUTE
    _assert_settled(books)


def test_a_reversal_says_that_the_resource_was_heard_of_again(books: Bookkeeping) -> None:
    """Whoever reads the entries finds why the hour was charged anew."""
    _thought_dead(books)
    last = books.ledger.head()
    books.post(*LATE)
    assert last is not None
    reasons = {batch.reason for e in books.ledger.entries(last.seq + 1) if e["reverses_seq"]
               and (batch := books.ledger.batch(e["batch_id"]))}  # fmt: skip
    assert reasons == {"the resource was heard of again, and ends where it says itself"}


def test_silence_in_a_closed_month_is_taken_back_in_the_open_one(
    new_books: Callable[[], Bookkeeping],
) -> None:
    """The closed month keeps its entries; what came late is a correction (A17, I7)."""
    books = new_books()
    _thought_dead(books, JANUARY + HOUR)
    books.books.close("1970-01", "ada")
    before = list(books.ledger.entries())
    books.post(*LATE)
    after = list(books.ledger.entries())
    assert after[: len(before)] == before
    assert {e["period_id"] for e in after[len(before) :]} == {"1970-02"}
    kinds = {batch.kind for e in after[len(before) :]
             if (batch := books.ledger.batch(e["batch_id"]))}  # fmt: skip
    assert kinds == {"correction"}
    _assert_as_if_in_time(books, new_books(), *LATE)


def test_silence_that_a_person_took_back_is_not_taken_back_twice(books: Bookkeeping) -> None:
    """The charge was reversed by hand before the resource was heard of again."""
    books.post(REPLICA)
    books.clock.at_us = 2 * HOUR
    assert books.metering.close_silent(HEARTBEAT_S) == 1
    books.books.post()
    for batch_id in dict.fromkeys(e["batch_id"] for e in books.ledger.entries()):
        books.books.reverse(batch_id, "it never started", "ada")
    books.post(*EARLY)
    assert books.balances("device_us")[f"supply:{NAME}"] == -30 * MINUTE
    _assert_settled(books)


def test_a_posting_of_what_was_taken_back_meanwhile_is_void(books: Bookkeeping) -> None:
    """Read before the resource was heard of, written after: it charges nothing."""
    _thought_dead(books, posted=False)
    (stale,) = books.facts.unposted()
    books.facts.ingest(LATE, books.clock.at_us)
    assert books.ledger.post([Posting((), windows=(stale.supply.idem_key,))], 1) == 0
    with books.engine.connect() as connection:
        posted = connection.execute(select(ledger.posted_window.c.idem_key)).scalars().all()
    assert stale.supply.idem_key not in posted


def test_an_inference_that_comes_after_the_windows_is_void(books: Bookkeeping) -> None:
    """A collector that looked before they arrived, and wrote afterwards, charges nothing."""
    books.clock.at_us = 2 * HOUR
    books.post(REPLICA, *EARLY, *LATE)
    inferred = inferred_window(REPLICA, 30 * MINUTE, 30 * SECOND)
    assert books.facts.ingest([inferred], books.clock.at_us).new == 1
    assert books.facts.unposted() == []
    assert [r.resource_id for r, _ in books.facts.silent_resources(2 * HOUR)] == [NAME]
    _assert_settled(books)


def test_what_a_reservation_s_user_was_thought_to_use_counts_no_more(books: Bookkeeping) -> None:
    """Reserved capacity is used by real windows only, and its unused part follows (I3)."""
    books.price("pool-hour", 3_000_000_000, kind="reserved")
    held = Resource("reservation/pool-hour", "reservation", "gpu", 1, 1, "pool-hour", 0, "DEU")
    user = Resource(NAME, "replica", "gpu", 1, 1, "pool-hour", 0, "DEU")
    books.post(held, user, ResourceEnd(held.resource_id, HOUR))
    books.clock.at_us = 4 * HOUR
    assert books.metering.close_silent(HEARTBEAT_S) == 1
    books.books.post()
    assert books.facts.reserved_with("pool-hour", 0) == 30 * SECOND
    books.post(*EARLY)
    assert books.facts.reserved_with("pool-hour", 0) == 30 * MINUTE
    assert sum(v for k, v in books.balances("nUSD").items() if "supply" in k) == -3_000_000_000
    assert books.ledger.first_break() is None


def test_silence_that_moved_on_to_a_version_is_taken_back_from_it(
    new_books: Callable[[], Bookkeeping],
) -> None:
    """A run's cost had become its version's; what was only inferred of it leaves the version."""
    name, made = "train/run-1/1", ModelVersion(
        "m", 1, "run-1", "runs:/run-1/model", "model.onnx", "d" * 64, 10, "base", "trained",
        Signature((), ()), HOUR,
    )  # fmt: skip
    worker = Resource(name, "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU")

    def epoch(number: int, start: int, end: int) -> list[Fact]:
        return [
            SupplyWindow("run-1", "boot", 2 * number - 1, name, start, end, end - start),
            UsageWindow("run-1", "boot", 2 * number, name, start, end, "m", None, "training",
                        "train", "run-1", 1, busy_ns=(end - start) * 1_000),
        ]  # fmt: skip

    books, in_time = new_books(), new_books()
    late = [*epoch(2, 20 * MINUTE, 100 * MINUTE), ResourceEnd(name, 100 * MINUTE)]
    for one in (books, in_time):
        one.clock.at_us = 3 * HOUR
        one.catalog.record_version(made)
        one.post(worker, *epoch(1, 0, 20 * MINUTE))
    assert books.metering.close_silent(HEARTBEAT_S) == 1
    books.books.post()
    assert books.balances("device_us")["idle:model:m/1:training"] == 30 * SECOND
    books.clock.at_us += SECOND
    books.post(*late)
    in_time.post(*late)
    assert _all(books) == _all(in_time)
    assert books.balances("device_us")["model:m/1:training:train"] == 100 * MINUTE
    _assert_settled(books)


def test_a_forged_return_is_found(books: Bookkeeping) -> None:
    """Silence that was marked as taken back though nothing was heard: verify names it."""
    _thought_dead(books)
    with books.engine.begin() as connection:
        key = connection.execute(select(measured.inferred_window.c.idem_key)).scalar_one()
        connection.execute(insert(measured.superseded_window).values(idem_key=key, recorded_us=1))
    found = books.ledger.first_break()
    assert found is not None and found.what.startswith(f"the silence of {NAME} is charged")
    named = next(e for e in books.ledger.entries(found.seq))
    assert books.ledger.batch(named["batch_id"]).subject == f"{NAME}@0"  # type: ignore[union-attr]


def test_several_silent_resources_are_ended_at_once(books: Bookkeeping) -> None:
    """Each has its own silence; the one that comes back takes only its own back."""
    books.post(REPLICA, OTHER, *EARLY)
    books.clock.at_us = 2 * HOUR
    assert books.metering.close_silent(HEARTBEAT_S) == 2
    books.books.post()
    books.post(*LATE)
    time = books.balances("device_us")
    assert (time[f"supply:{NAME}"], time["supply:serve/shop/1"]) == (-80 * MINUTE, -30 * SECOND)
    _assert_settled(books)
