"""Ledger integers as text for people: three significant digits, a readable unit, an en dash.

Pages and the command line show the same words for the same figure. ``None`` is "–" (unknown);
0 is "0 …" (known to be nothing). The text is for reading: files and JSON carry the integers.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

UNKNOWN = "–"
DIGITS = 3

Scale = Sequence[tuple[int, str]]
ENERGY: Scale = ((1, "mJ"), (10**3, "J"), (36 * 10**5, "Wh"), (36 * 10**8, "kWh"),
                 (36 * 10**11, "MWh"))  # fmt: skip
CARBON: Scale = ((1, "µg"), (10**3, "mg"), (10**6, "g"), (10**9, "kg"), (10**12, "t"))
DURATION: Scale = ((1, "µs"), (10**3, "ms"), (10**6, "s"), (36 * 10**8, "h"))
FLOPS: Scale = tuple((1000**i, f"{prefix}FLOP") for i, prefix in enumerate(["", *"kMGTPEZ"]))
SIZE: Scale = ((1, "B"), (10**3, "kB"), (10**6, "MB"), (10**9, "GB"))


def money(nano: int | None) -> str:
    """Nano-USD as dollars; two decimals at least, and exactly two from one dollar on.

    >>> money(123_456), money(1_234_560_000_000), money(-5_000_000), money(0), money(None)
    ('$0.000123', '$1,234.56', '-$0.005', '$0', '–')
    """
    if nano is None:
        return UNKNOWN
    dollars = abs(Decimal(nano)) / 10**9
    whole, _, decimals = _plain(_significant(dollars)).partition(".")
    text = f"{dollars:,.2f}" if dollars >= 1 else f"{whole}.{decimals:0<2}"
    sign = "-" if nano < 0 else ""
    return f"{sign}${text if nano else 0}"


def energy(mj: int | None) -> str:
    """Millijoules as mJ, J, Wh, kWh or MWh.

    >>> energy(12_345), energy(4_320_000_000), energy(None)
    ('12.3 J', '1.2 kWh', '–')
    """
    return _scaled(mj, ENERGY)


def carbon(ug: int | None) -> str:
    """Micrograms of CO2e as µg, mg, g, kg or t; the column says CO2e.

    >>> carbon(45_600), carbon(999_999)
    ('45.6 mg', '1 g')
    """
    return _scaled(ug, CARBON)


def duration(us: int | None) -> str:
    """Device-microseconds (or any time) as µs, ms, s or h.

    >>> duration(12_345_678), duration(7_200_000_000), duration(0)
    ('12.3 s', '2 h', '0 s')
    """
    return "0 s" if us == 0 else _scaled(us, DURATION)


def flops(n: int | None) -> str:
    """A number of floating-point operations, in powers of a thousand.

    >>> flops(31_234_567_890), flops(None)
    ('31.2 GFLOP', '–')
    """
    return _scaled(n, FLOPS)


def size(n: int | None) -> str:
    """Bytes in decimal units.

    >>> size(120_345)
    '120 kB'
    """
    return _scaled(n, SIZE)


def milliseconds(ms: float | None) -> str:
    """A latency, always in milliseconds, so that neighbours compare.

    >>> milliseconds(0.01234), milliseconds(None)
    ('0.0123 ms', '–')
    """
    return UNKNOWN if ms is None else f"{_plain(_significant(Decimal(str(ms))))} ms"


def count(n: int | None) -> str:
    """A whole number, every digit of it.

    >>> count(1234567), count(0), count(None)
    ('1,234,567', '0', '–')
    """
    return UNKNOWN if n is None else f"{n:,}"


def percent(x: float | None) -> str:
    """A fraction as percent.

    >>> percent(0.97222), percent(1.0), percent(0.00012), percent(None)
    ('97.2 %', '100 %', '0.012 %', '–')
    """
    return UNKNOWN if x is None else f"{_plain(_significant(Decimal(str(x)) * 100))} %"


def _scaled(amount: int | None, scale: Scale) -> str:
    """In the largest unit that leaves at least 1, chosen after rounding: never "1,000 mJ"."""
    if amount is None:
        return UNKNOWN
    fitting = [step for step in scale if abs(_significant(Decimal(amount) / step[0])) >= 1]
    divisor, unit = fitting[-1] if fitting else scale[0]
    return f"{_plain(_significant(Decimal(amount) / divisor))} {unit}"


def _significant(value: Decimal) -> Decimal:
    """Rounded to three significant digits; digits before the point are never rounded away."""
    if not value:
        return Decimal(0)
    last = min(0, value.adjusted() - DIGITS + 1)
    return value.quantize(Decimal(1).scaleb(last), ROUND_HALF_EVEN)


def _plain(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
