"""What a table file holds: typed columns, and rows of exact values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from steelyard.domain.allocation import round_half_even
from steelyard.domain.errors import Fault, InvalidInput

Kind = Literal["text", "json", "decimal", "integer", "time"]
Cell = str | int | Decimal | datetime | None
Row = Mapping[str, Cell]
Form = Literal["csv", "parquet", "jsonl"]
FORMS: Mapping[str, Form] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Column:
    """A name and what its cells are. ``places``: digits after the point that a decimal keeps."""

    name: str
    kind: Kind = "text"
    places: int = 0


def form_of(name: str | None, as_json: bool = False) -> Form:
    """How a file of that name is written; standard output is CSV, or JSON lines when asked.

    >>> form_of("november.parquet")
    'parquet'

    Raises:
        InvalidInput: the name ends in none of .csv, .parquet, .jsonl, or contradicts ``as_json``.
    """
    if name is None:
        return "jsonl" if as_json else "csv"
    form = FORMS.get(name[name.rfind(".") :].lower())
    if form is None or (as_json and form != "jsonl"):
        wanted = ".jsonl with --json" if as_json else ".csv, .parquet or .jsonl"
        fault = Fault("out", f"{name!r} does not end in {wanted}")
        raise InvalidInput(str(fault), (fault,), "The end of the name chooses the form.")
    return form


def exact(amount: int, places: int) -> Decimal:
    """A whole number of units as a decimal of the unit that is 10^places of them.

    Built from digits, because arithmetic on decimals rounds to its context's precision.

    >>> exact(-1_500_000_001, 9)
    Decimal('-1.500000001')
    """
    return Decimal((int(amount < 0), tuple(map(int, str(abs(amount)))), -places))


def rounded(value: Fraction, places: int) -> Decimal:
    """The nearest decimal with that many places, ties to even.

    >>> rounded(Fraction(1, 6), 3)
    Decimal('0.167')
    """
    return exact(round_half_even(value * 10**places), places)


def plain(value: Decimal) -> str:
    """Decimal text without exponent and without zeros that say nothing.

    >>> plain(Decimal("0.500000000")), plain(Decimal("-3.000")), plain(Decimal("120"))
    ('0.5', '-3', '120')
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def moment(at_us: int) -> datetime:
    """Microseconds since the epoch as an aware time, without passing through a float."""
    return _EPOCH + timedelta(microseconds=at_us)
