"""Reserved device time × price, split where a price changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from steelyard.domain.allocation import round_half_even

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the price book: nano-units of ``currency`` per device-hour, from a moment on."""

    price_id: str
    sku: str
    currency: str
    price_nano: int
    valid_from_us: int
    recorded_us: int
    source: str = ""


def price_at(prices: Sequence[Price], sku: str, at_us: int, as_of_us: int) -> Price | None:
    """The price in force at ``at_us`` as known at ``as_of_us``; None when there is none."""
    known = [
        p for p in prices if p.sku == sku and p.valid_from_us <= at_us and p.recorded_us <= as_of_us
    ]
    return max(known, key=lambda p: (p.valid_from_us, p.recorded_us), default=None)


def cost_nano(
    prices: Sequence[Price], sku: str, start_us: int, end_us: int, devices: int, as_of_us: int
) -> tuple[int, str] | None:
    """Cost of reserving ``devices`` over a window, and the id of the price at its start.

    cost = Σ over price segments of device-time · price per hour / one hour, rounded once.
    None when any part of the window has no price: unknown, not free.

    >>> day = [Price("p", "vcpu", "USD", 2_000_000_000, 0, 0)]
    >>> cost_nano(day, "vcpu", 0, HOUR_US // 2, 1, 0)
    (1000000000, 'p')
    """
    changes = sorted({p.valid_from_us for p in prices if start_us < p.valid_from_us < end_us})
    edges = [start_us, *changes, end_us]
    total = Fraction(0)
    for left, right in pairwise(edges):
        price = price_at(prices, sku, left, as_of_us)
        if price is None:
            return None
        total += Fraction((right - left) * devices * price.price_nano, HOUR_US)
    first = price_at(prices, sku, start_us, as_of_us)
    assert first is not None
    return round_half_even(total), first.price_id
