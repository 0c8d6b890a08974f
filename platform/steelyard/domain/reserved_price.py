"""What a device-hour of reserved capacity costs: the invoice over the hours it bought."""

from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.allocation import round_half_even
from steelyard.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ReservedPrice:
    """An invoice spread over device-hours; ``rounding_nano`` is what the price leaves over.

    Charging every hour of the term at ``price_nano`` gives the invoice less ``rounding_nano``,
    which is negative when the price was rounded up.
    """

    price_nano: int
    exact_nano: Fraction
    rounding_nano: Fraction


def reserved_price(invoice_nano: int, hours: Fraction, devices: int) -> ReservedPrice:
    """Nano-units per device-hour: invoice / (hours · devices), rounded once, half to even.

    >>> reserved_price(8760 * 10**9, Fraction(8760), 1).price_nano
    1000000000
    >>> reserved_price(100, Fraction(3), 1)
    ReservedPrice(price_nano=33, exact_nano=Fraction(100, 3), rounding_nano=Fraction(1, 1))

    Raises:
        InvalidInput: no hours, no devices, or an invoice below 0.
    """
    if invoice_nano < 0 or hours <= 0 or devices < 1:
        raise InvalidInput(
            f"A reservation has an invoice, hours and devices, found {invoice_nano} nano, "
            f"{hours} h, {devices} devices.",
            hint="Hours are those of one device over the whole term, 8760 for a year.",
        )
    exact = invoice_nano / (hours * devices)
    price = round_half_even(exact)
    return ReservedPrice(price, exact, invoice_nano - price * hours * devices)
