"""Reading a file of prices or coefficients: every row is usable, or none is taken.

The file is CSV with a header line. Columns may come in any order; those with a default may be
left out. A fault names the line, the column, what was found and what to write instead.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from steelyard.domain import catalog_rows
from steelyard.domain.catalog_rows import (
    COEFFICIENT_CELLS,
    COEFFICIENT_DEFAULTS,
    PRICE_CELLS,
    PRICE_DEFAULTS,
    CoefficientDeclaration,
    Declaration,
    PriceDeclaration,
)
from steelyard.domain.errors import Fault, InvalidInput

MOST_ROWS = 100_000
MOST_FAULTS = 50
"""Faults told at once: whoever sent the wrong file does not read more."""
PAGE = "Nothing of the file was imported. See docs/reference/coefficients.md."
Row = TypeVar("Row", bound=Declaration)


@dataclass(frozen=True, slots=True)
class _Shape(Generic[Row]):
    """What a file holds: its columns, those that may be missing, and how a row is read."""

    columns: tuple[str, ...]
    defaults: Mapping[str, str]
    read: Callable[[Mapping[str, str]], Row]


def prices(text: str, name: str, earliest_us: int = 1) -> list[PriceDeclaration]:
    """The prices of the file ``name`` with the content ``text``, in the file's order.

    Raises:
        InvalidInput: with every fault and its place.
    """
    read = partial(catalog_rows.price, earliest_us=earliest_us)
    return _rows(text, name, _Shape(PRICE_CELLS, PRICE_DEFAULTS, read))


def coefficients(text: str, name: str, earliest_us: int = 1) -> list[CoefficientDeclaration]:
    """The coefficients of the file ``name``, in the file's order.

    Raises:
        InvalidInput: with every fault and its place.
    """
    read = partial(catalog_rows.coefficient, earliest_us=earliest_us)
    return _rows(text, name, _Shape(COEFFICIENT_CELLS, COEFFICIENT_DEFAULTS, read))


def _rows(text: str, name: str, shape: _Shape[Row]) -> list[Row]:
    faults: list[Fault] = []
    found: dict[tuple[object, ...], tuple[int, Row]] = {}
    try:
        for line, cells in _cells(text, shape):
            try:
                row = _one(cells, shape)
            except InvalidInput as error:
                faults += [Fault(f.where, f.what, line) for f in error.faults]
                continue
            first, _ = found.setdefault((*row.place, row.valid_from_us), (line, row))
            if first != line:
                what = f"is for the same and from the same moment as line {first}; keep one"
                faults.append(Fault("row", what, line))
    except csv.Error as error:
        faults.append(Fault("file", f"is not CSV: {error}; write UTF-8 text with commas"))
    except InvalidInput as error:
        faults += error.faults
    if not faults and not found:
        faults.append(Fault("file", "has no rows; write one below the header", 1))
    if faults:
        left = len(faults) - MOST_FAULTS
        more = f"; {left} more faults are not shown" if left > 0 else ""
        raise InvalidInput(f"{name} is not usable{more}.", tuple(faults[:MOST_FAULTS]), PAGE)
    return [row for _, row in found.values()]


def _cells(text: str, shape: _Shape[Row]) -> Iterator[tuple[int, list[str] | dict[str, str]]]:
    """Every row's line and cells; those of a row with too few or too many as a list."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    _check_header(header, shape)
    for number, values in enumerate(reader):
        if number == MOST_ROWS:
            raise InvalidInput("", (Fault("file", f"has more than {MOST_ROWS} rows; split it"),))
        if any(value.strip() for value in values):
            whole = len(values) == len(header)
            yield reader.line_num, dict(zip(header, values, strict=True)) if whole else values


def _one(cells: list[str] | dict[str, str], shape: _Shape[Row]) -> Row:
    if isinstance(cells, list):
        what = f"found {len(cells)} cells; write one a column, and quotes around text with a comma"
        raise InvalidInput("", (Fault("row", what),))
    written = {name: text for name, text in cells.items() if text.strip()}
    return shape.read({**dict.fromkeys(cells, ""), **shape.defaults, **written})


def _check_header(header: list[str], shape: _Shape[Row]) -> None:
    known = ", ".join(shape.columns)
    faults = [
        Fault(f"column {name}", "is missing in the header; add it", 1)
        for name in shape.columns
        if name not in header and name not in shape.defaults
    ]
    for name in dict.fromkeys(header):
        if name not in shape.columns:
            faults.append(Fault(f"column {name!r}", f"is not known; columns: {known}", 1))
        elif header.count(name) > 1:
            faults.append(Fault(f"column {name}", "comes twice; keep one", 1))
    if faults:
        raise InvalidInput("", tuple(faults))
