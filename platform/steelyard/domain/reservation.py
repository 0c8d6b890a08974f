"""Reserved capacity: paid for whether used or not, so what nobody used has an account too."""

from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.allocation import round_half_even
from steelyard.domain.cost import HOUR_US, price_at
from steelyard.domain.ledger import Account, Transfer
from steelyard.domain.metering import Resource
from steelyard.domain.rate_book import RateBook


@dataclass(frozen=True, slots=True)
class Unused:
    """One hour of a reservation. ``over_us`` was used beyond it, at the same price: a fault."""

    unused_us: int
    over_us: int


def unused(reserved_us: int, used_us: int) -> Unused:
    """What is left of a reserved hour, in device-microseconds.

    >>> unused(7_200, 5_000)
    Unused(unused_us=2200, over_us=0)
    """
    return Unused(max(0, reserved_us - used_us), max(0, used_us - reserved_us))


def reserved_us(reservation: Resource, ended_us: int | None, hour: int) -> int:
    """Device-microseconds of a reservation inside one hour since 1970."""
    start = max(hour * HOUR_US, reservation.started_us)
    end = min((hour + 1) * HOUR_US, ended_us if ended_us is not None else (hour + 1) * HOUR_US)
    return max(0, end - start) * reservation.device_count


def unused_transfers(
    reservation: Resource, unused_us: int, hour: int, book: RateBook
) -> list[Transfer]:
    """Unused time and its price, from the reservation to ``idle:reservation/<sku>``.

    What its users reserved is charged through their own resources at the same price, so the two
    together make the invoice. Nothing for money while the price is unknown.
    """
    if not unused_us:
        return []
    supply = Account(f"supply:{reservation.resource_id}", "supply")
    idle = Account(f"idle:reservation/{reservation.price_sku}", "idle")
    moved = [Transfer("device_us", unused_us, idle, supply)]
    sku, start = reservation.price_sku, hour * HOUR_US
    price = price_at(book.prices(sku), sku, start, book.as_of_us)
    if price is not None and price.price_nano:
        cost = round_half_even(Fraction(unused_us * price.price_nano, HOUR_US))
        moved.append(Transfer("nUSD", cost, idle, supply, price.price_id))
    return [one for one in moved if one.amount]
