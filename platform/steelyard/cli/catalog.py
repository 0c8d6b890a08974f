"""``steelyard ledger prices`` and ``ledger coefficients``: what the ledger values time with."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, note, stdout, table
from steelyard.domain.catalog_cells import EPOCH, moment_us
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.quantities import exact
from steelyard.domain.reserved_price import ReservedPrice, reserved_price
from steelyard.services.catalogs import Catalogs, Declared
from steelyard.settings import load_settings

prices_app = typer.Typer(help="What a device-hour costs, from when on.", no_args_is_help=True)
coefficients_app = typer.Typer(
    help="Watts, grid intensities, PUE, embodied carbon, each with its source.",
    no_args_is_help=True,
)
NANO = 10**9
SHOWN = 5
"""Names in a note; the JSON document has all."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
At = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="Mark what holds then; default: now.")
]
AsOf = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="Only what was known then; default: now.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file with a header line.")]
ValidFrom = Annotated[
    str,
    typer.Option(metavar="MOMENT", help="From when it holds: 2026-01-31 or with time and zone."),
]
Source = Annotated[str, typer.Option(metavar="TEXT", help="Where the figure is from.")]


@prices_app.command("list")
def list_prices(
    sku: Annotated[str | None, typer.Option(metavar="S", help="Only this SKU.")] = None,
    at: At = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show the price book: each row, since when it is known, and which rows hold."""
    catalogs = _catalogs()
    at_us, as_of_us = _moments(catalogs, at, as_of)
    rows = [r for r in catalogs.prices(at_us, as_of_us) if sku in (None, r["sku"])]
    columns = ("holds", "sku", "kind", "Per device-hour", "valid from", "known since", "source")
    cells = [
        (_mark(r), r["sku"], r["kind"], f"{_decimal(r['price_nano'])} {r['currency']}",
         _moment(r["valid_from_us"]), _moment(r["recorded_us"]), r["source"])
        for r in rows
    ]  # fmt: skip
    document = {"at_us": at_us, "as_of_us": as_of_us, "prices": rows}
    emit(document, as_json, lambda: stdout.print(table("Prices", columns, cells)))


@prices_app.command("import")
def import_prices(file: File, as_json: AsJson = False) -> None:
    """Take in the prices of a file: all of them, or none when one is wrong."""
    _tell(_catalogs().import_prices(_read(file), file.name), as_json)


@prices_app.command("add")
def add_price(
    sku: Annotated[str, typer.Option(metavar="S", help="What is priced, as in price_sku.")],
    valid_from: ValidFrom,
    source: Source,
    price: Annotated[
        str | None, typer.Option(metavar="USD", help="USD per device-hour, exact decimal.")
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="K", help="on_demand, spot, reserved or internal.")
    ] = "on_demand",
    invoice: Annotated[
        str | None, typer.Option(metavar="USD", help="Of a reservation: its whole price.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(metavar="H", help="Of a reservation: the hours of its term.")
    ] = None,
    devices: Annotated[
        int, typer.Option(metavar="N", help="Of a reservation: how many devices it is of.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Declare one price: given per device-hour, or as the invoice of a reservation."""
    amortised = _amortised(kind, price, invoice, hours, devices)
    cells = {
        "sku": sku, "kind": kind, "valid_from": valid_from, "source": source,
        "price": _decimal(amortised.price_nano) if amortised else price or "",
    }  # fmt: skip
    declared = _catalogs().add_price(cells)
    if amortised:
        note(_rounding(amortised))
    _tell(declared, as_json, asdict(amortised) if amortised else {})


@coefficients_app.command("list")
def list_coefficients(
    kind: Annotated[
        str | None, typer.Option(metavar="K", help="Only this kind, for example grid_ci.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="K", help="Only this key.")] = None,
    at: At = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show the coefficients with range, source and licence, and which rows hold."""
    catalogs = _catalogs()
    at_us, as_of_us = _moments(catalogs, at, as_of)
    rows = [
        r for r in catalogs.coefficients(at_us, as_of_us)
        if kind in (None, r["kind"]) and key in (None, r["key"])
    ]  # fmt: skip
    columns = ("holds", "kind", "key", "Value", "unit", "range", "Year", "valid from",
               "known since", "licence", "source")  # fmt: skip
    cells = [
        (_mark(r), r["kind"], r["key"], r["value"], r["unit"], _range(r), r["year"],
         _moment(r["valid_from_us"]), _moment(r["recorded_us"]), r["licence"], r["source"])
        for r in rows
    ]  # fmt: skip
    document = {"at_us": at_us, "as_of_us": as_of_us, "coefficients": rows}
    emit(document, as_json, lambda: stdout.print(table("Coefficients", columns, cells)))


@coefficients_app.command("import")
def import_coefficients(file: File, as_json: AsJson = False) -> None:
    """Take in the coefficients of a file: all of them, or none when one is wrong."""
    _tell(_catalogs().import_coefficients(_read(file), file.name), as_json)


@coefficients_app.command("add")
def add_coefficient(
    kind: Annotated[str, typer.Option(metavar="K", help="For example grid_ci or pue.")],
    key: Annotated[str, typer.Option(metavar="K", help="Region or device that it is of.")],
    value: Annotated[str, typer.Option(metavar="V", help="Exact decimal; of grid_zone a region.")],
    unit: Annotated[str, typer.Option(metavar="U", help="Unit; of grid_ci g/kWh or lb/MWh.")],
    valid_from: ValidFrom,
    source: Source,
    licence: Annotated[str, typer.Option(metavar="TEXT", help="Licence of the figure.")],
    low: Annotated[str, typer.Option(metavar="V", help="Low end of its range.")] = "",
    high: Annotated[str, typer.Option(metavar="V", help="High end of its range.")] = "",
    year: Annotated[str, typer.Option(metavar="Y", help="Year that the figure is of.")] = "",
    as_json: AsJson = False,
) -> None:
    """Declare one coefficient. The key default serves whatever has no row of its own."""
    cells = {
        "kind": kind, "key": key, "value": value, "unit": unit, "low": low, "high": high,
        "year": year, "source": source, "licence": licence, "valid_from": valid_from,
    }  # fmt: skip
    _tell(_catalogs().add_coefficient(cells), as_json)


def _catalogs() -> Catalogs:
    return Platform(load_settings()).catalogs


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file.name} is not UTF-8 text.", hint="Save it as CSV UTF-8."
        ) from error
    except OSError as error:
        raise NotFound(f"The file {file} cannot be read: {error.strerror}.") from error


def _moments(catalogs: Catalogs, at: str | None, as_of: str | None) -> tuple[int, int]:
    now_us = catalogs.now_us()
    return _moment_of("--at", at, now_us), _moment_of("--as-of", as_of, now_us)


def _moment_of(option: str, text: str | None, default_us: int) -> int:
    try:
        return default_us if text is None else moment_us(text)
    except ValueError as error:
        raise InvalidInput("The moment is not usable.", (Fault(option, str(error)),)) from error


def _amortised(
    kind: str, price: str | None, invoice: str | None, hours: str | None, devices: int
) -> ReservedPrice | None:
    if (price is None) == (invoice is None):
        raise InvalidInput(
            "A price is given per device-hour or as an invoice.",
            hint="Give either --price, or --invoice with --hours and --devices.",
        )
    if invoice is None:
        return None
    if kind != "reserved" or hours is None:
        raise InvalidInput(
            "An invoice is of a reservation with a term.", hint="Add --kind reserved --hours H."
        )
    nano = exact(invoice) * NANO
    if nano.denominator != 1:
        raise InvalidInput(f"The invoice {invoice} has more than nine decimals.")
    return reserved_price(int(nano), exact(hours), devices)


def _rounding(p: ReservedPrice) -> str:
    text = f"{_decimal(p.price_nano)} USD per device-hour"
    if p.exact_nano == p.price_nano:
        return f"{text}, exactly the invoice over the hours"
    left = _decimal(abs(p.rounding_nano))
    side = "less" if p.rounding_nano > 0 else "more"
    return (
        f"{text}, rounded half to even to whole nano-USD; over the whole term that is {left} USD "
        f"{side} than the invoice"
    )


def _tell(declared: Declared, as_json: bool, extra: dict[str, Any] | None = None) -> None:
    def show() -> None:
        stdout.print(f"added {declared.added}, already known {declared.known}", markup=False)

    emit({**asdict(declared), **(extra or {})}, as_json, show)
    if declared.superseded:
        note(_superseded(declared.superseded))
    if declared.past_from_us is not None:
        since = _moment(declared.past_from_us)
        note(f"Hours charged since {since} keep their value until: "
             f"steelyard ledger post --value-anew {since}")  # fmt: skip


def _superseded(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return (
        f"{len(names)} of these were known, but a later row has replaced them: {shown}. To bring "
        "one back, declare it with another source text, which makes it a new row."
    )


def _mark(row: dict[str, Any]) -> str:
    return "yes" if row["in_force"] else ""


def _range(row: dict[str, Any]) -> str | None:
    if row["low"] is None and row["high"] is None:
        return None
    return f"{row['low'] or '?'} to {row['high'] or '?'}"


def _moment(us: int) -> str:
    if us == 0:
        return "always"
    moment = EPOCH + timedelta(microseconds=us)
    if us % (24 * 3600 * 1_000_000) == 0:
        return moment.date().isoformat()
    return moment.isoformat(timespec="microseconds" if us % 1_000_000 else "seconds").replace(
        "+00:00", "Z"
    )


def _decimal(nano: int | Fraction) -> str:
    """Nano-units as exact decimal text; a fraction of one is cut at twelve decimals."""
    units = Decimal(int(nano * 1_000)).scaleb(-12)
    text = format(units, "f").rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"
