"""Label tables in CSV, Parquet and JSON, as rows: of a file, or of what was sent as one."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from steelyard.domain.errors import Fault, InvalidInput, Unavailable

LARGEST_BYTES = 256 * 2**20
COLUMNS = ("prediction_id", "unit", "class", "classes")
Rows = Iterator[Mapping[str, Any]]


def read_rows(file: Path) -> Rows:
    """The rows of a table, told by the file's suffix: .csv, .parquet, .json (a list of objects).

    Raises:
        InvalidInput: it is of another kind, too large, or is not what its suffix says.
        Unavailable: pyarrow, which reads Parquet, is missing.
    """
    if file.suffix not in READERS:
        raise _fault(str(file), f"is none of {', '.join(READERS)}")
    try:
        size = file.stat().st_size
        if size > LARGEST_BYTES:
            raise _fault(str(file), f"has {size} bytes, more than {LARGEST_BYTES}")
        with file.open("rb") as opened:
            yield from rows_of(opened, file.suffix, str(file))
    except OSError as error:
        raise _fault(str(file), error.strerror or str(error)) from error


def rows_of(table: IO[bytes], suffix: str, name: str) -> Rows:
    """The rows of an open table of one of the kinds above; ``name`` is what faults call it.

    Raises:
        InvalidInput: it is not of this kind.
        Unavailable: pyarrow, which reads Parquet, is missing.
    """
    return READERS[suffix](table, name)


def _csv(table: IO[bytes], name: str) -> Rows:
    try:
        yield from csv.DictReader(TextIOWrapper(table, encoding="utf-8-sig", newline=""))
    except (csv.Error, UnicodeDecodeError) as error:
        raise _fault(name, f"is no CSV: {error}") from error


def _json(table: IO[bytes], name: str) -> Rows:
    try:
        rows = json.load(table)
    except (ValueError, RecursionError) as error:
        raise _fault(name, f"is no JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _fault(name, "is no list of objects")
    yield from rows


def _parquet(table: IO[bytes], name: str) -> Rows:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise Unavailable("Parquet needs pyarrow.", "pip install pyarrow, or use CSV.") from error
    try:
        opened = ParquetFile(table)
        columns = [name for name in COLUMNS if name in opened.schema_arrow.names]
        for batch in opened.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise _fault(name, f"is no Parquet: {error}") from error


READERS: Mapping[str, Callable[[IO[bytes], str], Rows]] = {
    ".csv": _csv, ".json": _json, ".parquet": _parquet,
}  # fmt: skip


def _fault(name: str, what: str) -> InvalidInput:
    fault = Fault(name, what)
    return InvalidInput(str(fault), (fault,), "Columns: prediction_id or unit, class or classes.")
