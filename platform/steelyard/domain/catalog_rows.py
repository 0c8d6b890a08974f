"""What a price or a coefficient has to say before the ledger takes it, checked cell by cell.

A declaration is a row without the moment of its recording. Its id is a digest of its content, so
the same declaration made twice is one row. Figures stay the decimal text that was written.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast, get_args

from steelyard.domain.catalog_cells import KINDS, Cells, Kind
from steelyard.domain.cost import PriceKind
from steelyard.domain.hash_chain import digest

PRICE_CELLS = ("sku", "kind", "currency", "unit", "price", "valid_from", "source")
PRICE_DEFAULTS = {"currency": "USD", "unit": "device_hour"}
COEFFICIENT_CELLS = ("kind", "key", "value", "unit", "low", "high", "year", "source", "licence",
                     "valid_from")  # fmt: skip
COEFFICIENT_DEFAULTS = {"low": "", "high": "", "year": ""}
PRICE_KINDS = get_args(PriceKind)


@dataclass(frozen=True, slots=True)
class PriceDeclaration:
    """What a device-hour of ``sku`` costs from a moment on, in nano-units of ``currency``."""

    sku: str
    kind: PriceKind
    currency: str
    unit: str
    price_nano: int
    valid_from_us: int
    source: str

    @property
    def row_id(self) -> str:
        """The row's id: a digest of its content."""
        return digest(asdict(self))[:32]

    @property
    def place(self) -> tuple[str, ...]:
        """What it prices: of several rows for one place and moment the newest holds."""
        return (self.sku,)


@dataclass(frozen=True, slots=True)
class CoefficientDeclaration:
    """A cited constant from a moment on; ``value``, ``low`` and ``high`` are decimal text."""

    kind: str
    key: str
    value: str
    unit: str
    low: str | None
    high: str | None
    year: int | None
    source: str
    licence: str
    valid_from_us: int

    @property
    def row_id(self) -> str:
        """The row's id: a digest of its content."""
        return digest(asdict(self))[:32]

    @property
    def place(self) -> tuple[str, ...]:
        """What it is the constant of."""
        return (self.kind, self.key)


Declaration = PriceDeclaration | CoefficientDeclaration


def price(cells: Mapping[str, str], earliest_us: int = 1) -> PriceDeclaration:
    """The price that the cells declare.

    Only shipped rows are valid from the epoch itself, so every other row of a SKU outlives a new
    Steelyard's shipped ones.

    Raises:
        InvalidInput: with every fault and its column.
    """
    row = Cells(PRICE_DEFAULTS | dict(cells))
    declared = PriceDeclaration(
        sku=row.text("sku"),
        kind=cast(PriceKind, row.choice("kind", PRICE_KINDS)),
        currency=row.choice("currency", ("USD",)),
        unit=row.choice("unit", ("device_hour",)),
        price_nano=row.nano("price"),
        valid_from_us=row.moment("valid_from", earliest_us),
        source=row.text("source"),
    )
    row.complain()
    return declared


def coefficient(cells: Mapping[str, str], earliest_us: int = 1) -> CoefficientDeclaration:
    """The coefficient that the cells declare. Pounds per MWh become grams per kWh, exactly.

    Raises:
        InvalidInput: with every fault and its column.
    """
    row = Cells(COEFFICIENT_DEFAULTS | dict(cells))
    name = row.choice("kind", KINDS)
    kind = KINDS.get(name, Kind("", ""))
    pounds = name == "grid_ci" and cells.get("unit", "").strip() == "lb/MWh"
    low, value, high = (row.figure(c, name, kind, pounds) for c in ("low", "value", "high"))
    row.ordered(low, value, high)
    declared = CoefficientDeclaration(
        kind=name,
        key=row.peak_key("key") if name == "peak_flops" else row.text("key"),
        value=value or "",
        unit=kind.unit if pounds else row.choice("unit", (kind.unit,)),
        low=low,
        high=high,
        year=row.year("year"),
        source=row.text("source"),
        licence=row.text("licence"),
        valid_from_us=row.moment("valid_from", earliest_us),
    )
    row.complain()
    return declared
