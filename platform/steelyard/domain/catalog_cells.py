"""Reading the cells of one catalog row: text, choices, exact decimals, moments.

Every fault names the column, what was found, and what to write instead.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

from steelyard.domain.compute import peak_key
from steelyard.domain.errors import Fault, InvalidInput

LB_PER_MWH = Decimal("0.45359237")
"""Grams per kWh in a pound per MWh: the pound is 453.59237 g by definition."""
PLAIN = r"[0-9]+(\.[0-9]+)?"
LONGEST_TEXT, LONGEST_NUMBER = 1_000, 40
INT64 = 2**63
PAGE = "Nothing was taken in. See docs/reference/coefficients.md."
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of coefficient: its unit and the least value it may have."""

    unit: str
    about: str
    least: int = 0
    positive: bool = False


KINDS = {
    "grid_ci": Kind("g/kWh", "carbon intensity of a grid region"),
    "grid_zone": Kind("zone", "the grid region that a cloud region lies in"),
    "pue": Kind("ratio", "facility energy over device energy", least=1),
    "device_tdp_w": Kind("W", "rated power of a device", positive=True),
    "device_max_w": Kind("W", "power of a fully loaded device", positive=True),
    "device_idle_w": Kind("W", "power of an idle device"),
    "device_memory_gb": Kind("GB", "memory of a device, 10^9 bytes", positive=True),
    "peak_flops": Kind("FLOP/s", "dense peak of a device in a datatype", positive=True),
    "embodied_kg": Kind("kg", "CO2e of making a device"),
    "lifespan_h": Kind("h", "hours that a device is used for", positive=True),
}


def moment_us(text: str) -> int:
    """A day (its midnight) or a moment with its zone, as microseconds since the epoch, UTC.

    >>> moment_us("1970-01-02"), moment_us("1970-01-01T01:00:00+01:00")
    (86400000000, 0)

    Raises:
        ValueError: neither, or a moment that does not say its zone.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T ].*)?", text, re.ASCII) is None:
        raise ValueError(_asked(text, "a day like 2026-01-31 or a moment like 2026-01-31T12:00Z"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(_asked(text, "a day or moment of the calendar")) from error
    if len(text) > len("2026-01-31") and moment.tzinfo is None:
        raise ValueError(_asked(text, "a zone after the time, Z for UTC"))
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1)


class Cells:
    """One row's cells; a reading that fails is noted, and the row refused at the end."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = {k: unicodedata.normalize("NFC", v).strip() for k, v in cells.items()}
        self._faults: list[Fault] = []

    def complain(self) -> None:
        """Raise what was noted."""
        if self._faults:
            raise InvalidInput("The row is not usable.", tuple(self._faults), PAGE)

    def _fault(self, column: str, what: str) -> None:
        self._faults.append(Fault(f"column {column}", what))

    def text(self, column: str) -> str:
        """Printable text that must be there."""
        found = self._cells.get(column, "")
        if not found:
            self._fault(column, "is missing; write it")
        elif len(found) > LONGEST_TEXT or not found.isprintable():
            self._fault(column, _asked(found, f"printable text, up to {LONGEST_TEXT} characters"))
        return found

    def choice(self, column: str, choices: Collection[str]) -> str:
        """One of a few words; any word, when there is nothing to choose from."""
        found = self._cells.get(column, "")
        if found not in choices and any(choices):
            self._fault(column, _asked(found, f"one of: {', '.join(choices)}"))
        return found

    def peak_key(self, column: str) -> str:
        """The key of a dense peak: a device and a datatype."""
        found = self.text(column)
        device, _, datatype = found.rpartition("/")
        try:
            if not device or peak_key(device, datatype) != found:
                self._fault(column, _asked(found, "DEVICE/DATATYPE in lower case, like a100/bf16"))
        except InvalidInput as error:
            self._fault(column, _asked(found, f"DEVICE/DATATYPE. {error.hint}"))
        return found

    def _decimal(self, column: str) -> str | None:
        found = self._cells.get(column, "")
        plain = re.fullmatch(PLAIN, found)
        if plain is None or len(found) > LONGEST_NUMBER:
            self._fault(column, _asked(found, "digits with a decimal point and nothing else"))
            return None
        return found

    def nano(self, column: str) -> int:
        """A price as whole nano-units."""
        text = self._decimal(column)
        nano = Fraction(text or 0) * 10**9
        if nano.denominator != 1:
            self._fault(column, _asked(text, "at most nine decimals: the ledger's money is nano"))
        elif nano >= INT64:
            self._fault(column, _asked(text, f"less than {INT64 // 10**9} per device-hour"))
        return int(nano)

    def figure(self, column: str, name: str, kind: Kind, pounds: bool) -> str | None:
        """A decimal as text, in the kind's unit; None for an empty cell that may be empty."""
        empty = not self._cells.get(column)
        if empty and column != "value":
            return None
        if name == "grid_zone":
            if column == "value":
                return self.text(column)
            self._fault(column, "a zone has no range; leave it empty")
            return None
        text = self._decimal(column)
        if text is None:
            return None
        value = Fraction(text)
        if value < kind.least or (kind.positive and value == 0):
            least = "more than 0" if kind.positive else f"at least {kind.least}"
            self._fault(column, _asked(text, f"{least} {kind.unit}"))
        return _grams_per_kwh(text) if pounds else text

    def ordered(self, low: str | None, value: str | None, high: str | None) -> None:
        """Note a value outside its own range."""
        numbers = [Fraction(v) for v in (low, value, high) if v and re.fullmatch(PLAIN, v)]
        if numbers != sorted(numbers):
            self._fault("value", f"found low {low}, value {value}, high {high}; put them in order")

    def year(self, column: str) -> int | None:
        """A calendar year; None for an empty cell."""
        found = self._cells.get(column, "")
        if not found:
            return None
        if re.fullmatch(r"[12][0-9]{3}", found) is None:
            self._fault(column, _asked(found, "the year that the figure is of, like 2023"))
            return None
        return int(found)

    def moment(self, column: str, earliest_us: int) -> int:
        """Microseconds since the epoch, not before ``earliest_us``."""
        found = self.text(column)
        if not found:
            return 0
        try:
            moment = moment_us(found)
        except ValueError as error:
            self._fault(column, str(error))
            return 0
        if moment < earliest_us:
            self._fault(column, _asked(found, "a moment after 1970-01-01, which shipped rows have"))
        return moment


def _asked(found: object, wanted: str) -> str:
    text = str(found)
    shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
    return f"found {shown if text else 'nothing'}; write {wanted}"


def _grams_per_kwh(pounds_per_mwh: str) -> str:
    with localcontext(prec=2 * LONGEST_NUMBER):
        return format((Decimal(pounds_per_mwh) * LB_PER_MWH).normalize(), "f")
