"""Reserved device time × price, split where a price changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from steelyard.domain.allocation import round_half_even

HOUR_US = 3_600_000_000
PriceKind = Literal["on_demand", "spot", "reserved", "internal"]


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the price book: nano-units of ``currency`` per device-hour, from a moment on.

    ``kind`` says how it was agreed. A reserved price is the invoice over the hours reserved.
    """

    price_id: str
    sku: str
    currency: str
    price_nano: int
    valid_from_us: int
    recorded_us: int
    source: str = ""
    kind: PriceKind = "on_demand"
    unit: str = "device_hour"


def price_at(prices: Sequence[Price], sku: str, at_us: int, as_of_us: int) -> Price | None:
    """The price in force at ``at_us`` as known at ``as_of_us``; None when there is none."""
    known = [
        p for p in prices if p.sku == sku and p.valid_from_us <= at_us and p.recorded_us <= as_of_us
    ]
    return max(known, key=lambda p: (p.valid_from_us, p.recorded_us), default=None)


@dataclass(frozen=True, slots=True)
class Charge:
    """What reserved device time cost under one price."""

    price_id: str
    amount_nano: int


def charges(
    prices: Sequence[Price], sku: str, start_us: int, end_us: int, devices: int, as_of_us: int
) -> tuple[Charge, ...] | None:
    """Cost of reserving ``devices`` over a window, one charge per price in force.

    cost = device-time · price per hour / one hour, rounded once per price. None when any part of
    the window has no price: unknown, not free.

    >>> day = [Price("p", "vcpu", "USD", 2_000_000_000, 0, 0)]
    >>> charges(day, "vcpu", 0, HOUR_US // 2, 1, 0)
    (Charge(price_id='p', amount_nano=1000000000),)
    """
    changes = {p.valid_from_us for p in prices if start_us < p.valid_from_us < end_us}
    found: list[Charge] = []
    for left, right in pairwise([start_us, *sorted(changes), end_us]):
        price = price_at(prices, sku, left, as_of_us)
        if price is None:
            return None
        cost = Fraction((right - left) * devices * price.price_nano, HOUR_US)
        found.append(Charge(price.price_id, round_half_even(cost)))
    return tuple(found)
