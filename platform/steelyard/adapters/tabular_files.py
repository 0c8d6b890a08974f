"""Tables as CSV, Parquet and JSON lines: streamed, exact, and whole or not at all."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

from steelyard.domain.errors import Fault, InvalidInput, Unavailable
from steelyard.domain.table import Cell, Column, Form, Row, plain

DIGITS = 38
"""Of a Parquet decimal, before and after the point."""
ROW_GROUP = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_table(
    path: Path | None, form: Form, columns: Sequence[Column], rows: Iterable[Row]
) -> int:
    """Write rows to a file, or to standard output; the number of rows.

    A file appears under its name when it is complete: an error on the way, also one that
    ``rows`` raises, leaves what was there before.

    Raises:
        InvalidInput: Parquet was asked for on standard output.
        Unavailable: the file cannot be written, or pyarrow is missing.
    """
    if path is None:
        if form == "parquet":
            fault = Fault("out", "Parquet needs a file")
            raise InvalidInput(str(fault), (fault,), "Give --out FILE.parquet.")
        return _TEXT[form](sys.stdout, columns, rows)
    with _replacing(path) as unfinished:
        if form == "parquet":
            return _parquet(unfinished, columns, rows)
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            return _TEXT[form](file, columns, rows)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written: {error.strerror}.", "Choose another place."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _csv(file: IO[str], columns: Sequence[Column], rows: Iterable[Row]) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    written = 0
    for row in rows:
        writer.writerow([_cell(column, row.get(column.name)) for column in columns])
        written += 1
    return written


def _cell(column: Column, value: Cell) -> str:
    text = _text(value)
    # A spreadsheet runs a text that begins like this as a formula, and names come from people.
    return f"'{text}" if column.kind == "text" and text.startswith(_FORMULA) else text


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def _json_lines(file: IO[str], columns: Sequence[Column], rows: Iterable[Row]) -> int:
    written = 0
    for row in rows:
        line = {column.name: _value(row.get(column.name)) for column in columns}
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        written += 1
    return written


def _value(value: Cell) -> str | int | None:
    """A decimal is text in JSON, because most readers would make a binary float of it."""
    return value if value is None or isinstance(value, int) else _text(value)


_TEXT: Mapping[Form, Callable[[IO[str], Sequence[Column], Iterable[Row]], int]] = {
    "csv": _csv, "jsonl": _json_lines,
}  # fmt: skip


def _parquet(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise Unavailable(
            "Parquet files need pyarrow, which is not installed.",
            "pip install 'steelyard[parquet]', or write a .csv file.",
        ) from error
    types: dict[str, Any] = {
        "text": arrow.string(), "json": arrow.string(), "integer": arrow.int64(),
        "time": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    fields = [
        (c.name, arrow.decimal128(DIGITS, c.places) if c.kind == "decimal" else types[c.kind])
        for c in columns
    ]
    schema = arrow.schema(fields)
    written = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            arrays = [arrow.array([row.get(name) for row in group], kind) for name, kind in fields]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            written += len(group)
    return written


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while group := list(islice(waiting, ROW_GROUP)):
        yield group
