"""Reserved capacity: the users and the unused rest together are the invoice."""

import pytest

from steelyard.domain.metering import Resource, ResourceEnd, SupplyWindow, UsageWindow

from .conftest import HOUR, Bookkeeping

pytestmark = pytest.mark.integration
IDLE = "idle:reservation/gpu-hour"


def _reservation(devices: int = 2) -> Resource:
    return Resource("reservation/gpu-hour", "reservation", "gpu", devices, 1, "gpu-hour", 0)


def _replica(name: str = "a") -> Resource:
    return Resource(f"serve/{name}/0", "replica", "gpu", 1, 1, "gpu-hour", 0)


def _supply(start_us: int, end_us: int, name: str = "a") -> SupplyWindow:
    return SupplyWindow(name, "boot", start_us // HOUR, f"serve/{name}/0", start_us, end_us,
                        end_us - start_us)  # fmt: skip


def _usage(start_us: int, end_us: int, name: str = "a") -> UsageWindow:
    return UsageWindow(name, "boot", start_us // HOUR, f"serve/{name}/0", start_us, end_us, "m", 1,
                       "inference", "serve", busy_ns=10**12)  # fmt: skip


def test_users_and_the_unused_rest_make_the_invoice(books: Bookkeeping) -> None:
    """Two devices for two hours at $3, one used for half of one hour: $12 in all."""
    books.clock.at_us = 4 * HOUR
    books.post(_reservation(), _replica(), _supply(0, HOUR // 2), _usage(0, HOUR // 2),
               ResourceEnd("serve/a/0", HOUR // 2))  # fmt: skip
    money = books.balances("nUSD")
    assert money[IDLE] == 10_500_000_000
    assert sum(v for k, v in money.items() if k.startswith("supply:")) == -12_000_000_000
    assert sum(money.values()) == 0


def test_an_hour_is_charged_once_and_anew_when_a_user_reports_late(books: Bookkeeping) -> None:
    """Posting again adds nothing; a late hour of use moves from the unused rest to its user."""
    books.clock.at_us = 4 * HOUR
    books.post(_reservation(1), _replica())
    assert books.balances("nUSD")[IDLE] == 6_000_000_000
    assert books.books.post() == 0
    books.post(_supply(0, HOUR), _usage(0, HOUR))
    money = books.balances("nUSD")
    assert money[IDLE] == 3_000_000_000
    assert money["supply:serve/a/0"] == -3_000_000_000
    assert books.ledger.first_break() is None


def test_more_use_than_was_reserved_leaves_nothing_unused(books: Bookkeeping) -> None:
    """Both users are charged; nothing negative is booked."""
    books.clock.at_us = 3 * HOUR
    books.post(_reservation(1), _replica("a"), _replica("b"), _supply(0, HOUR, "a"),
               _supply(0, HOUR, "b"))  # fmt: skip
    assert IDLE not in books.balances("nUSD")


def test_a_reservation_is_silent_and_stays(books: Bookkeeping) -> None:
    """It reports nothing by itself, and does not count as dead."""
    books.post(_reservation())
    books.clock.at_us = 100 * HOUR
    assert books.metering.close_silent(10.0) == 0
