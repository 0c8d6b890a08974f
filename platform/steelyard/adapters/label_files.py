"""Label tables in CSV, Parquet and JSON, as rows."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steelyard.domain.errors import Fault, InvalidInput, Unavailable

LARGEST_BYTES = 256 * 2**20
COLUMNS = ("prediction_id", "unit", "class", "classes")


def read_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a table, told by the file's suffix: .csv, .parquet, .json (a list of objects).

    Raises:
        InvalidInput: it is of another kind, too large, or is not what its suffix says.
        Unavailable: pyarrow, which reads Parquet, is missing.
    """
    reader = READERS.get(file.suffix)
    if reader is None:
        raise _fault(file, f"is none of {', '.join(READERS)}")
    try:
        size = file.stat().st_size
    except OSError as error:
        raise _fault(file, str(error.strerror)) from error
    if size > LARGEST_BYTES:
        raise _fault(file, f"has {size} bytes, more than {LARGEST_BYTES}")
    return reader(file)


def _csv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        try:
            yield from csv.DictReader(opened)
        except (csv.Error, UnicodeDecodeError) as error:
            raise _fault(file, f"is no CSV: {error}") from error


def _json(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        rows = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _fault(file, f"is no JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _fault(file, "is no list of objects")
    yield from rows


def _parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise Unavailable("Parquet needs pyarrow.", "pip install pyarrow, or use CSV.") from error
    try:
        opened = ParquetFile(file)
        columns = [name for name in COLUMNS if name in opened.schema_arrow.names]
        for batch in opened.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise _fault(file, f"is no Parquet: {error}") from error


READERS = {".csv": _csv, ".json": _json, ".parquet": _parquet}


def _fault(file: Path, what: str) -> InvalidInput:
    fault = Fault(str(file), what)
    return InvalidInput(str(fault), (fault,), "Columns: prediction_id or unit, class or classes.")
