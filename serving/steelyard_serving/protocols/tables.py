"""Tables as MLflow's clients send them, and the tensors that they mean.

A column named like an input holds that input, a number or a list a row. When no column is named
so and there is one input, the columns in their order are its features.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any

from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.protocols.faults import (
    UnknownMediaType,
    brief,
    invalid,
    unreadable,
)
from steelyard_serving.protocols.tensors import (
    BATCH_LIMIT,
    DTYPES,
    ELEMENT_LIMIT,
    Array,
    array_of,
    checked_shape,
)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by column; all columns are as long as there are rows.

    ``text`` says that the cells are what CSV has: text, whatever is meant.
    """

    columns: Mapping[str, Sequence[Any]]
    rows: int
    text: bool = False


def from_records(field: str, records: Any) -> Table:
    """A table of objects, one a row.

    Raises:
        InvalidInput: it is none, or a row lacks what the first has.
    """
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise unreadable(field, "must be a list of objects, one a row")
    names = list(records[0]) if records else []
    for index, record in enumerate(records):
        lacking = [name for name in names if name not in record]
        if lacking:
            raise invalid(f"{field}[{index}]", f"has no {brief(lacking[0])}")
    return Table({name: [one[name] for one in records] for name in names}, len(records))


def from_split(field: str, split: Any) -> Table:
    """A table of ``columns`` and ``data``, a list a row; ``index`` is not looked at.

    Raises:
        InvalidInput: it is none, or a row is not as long as there are columns.
    """
    if not isinstance(split, dict) or not {"data"} <= split.keys() <= {"columns", "data", "index"}:
        raise unreadable(field, "must be an object of data, and perhaps columns and index")
    rows = split["data"]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise unreadable(f"{field}.data", "must be a list of lists, one a row")
    names = split.get("columns") or [str(n) for n in range(len(rows[0]) if rows else 0)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise unreadable(f"{field}.columns", "must be a list of names")
    return _of_rows(field, names, rows)


def from_csv(body: bytes) -> Table:
    """A table with its columns' names in the first line, in UTF-8.

    Raises:
        InvalidInput: it is no such table.
    """
    try:
        lines = csv.reader(io.StringIO(body.decode(), newline=""), strict=True)
        names = next(lines, [])
        rows = list(islice(filter(None, lines), BATCH_LIMIT + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise unreadable("body", f"is not CSV in UTF-8: {error}") from error
    table = _of_rows("body", names, rows)
    return Table(table.columns, table.rows, text=True)


def from_parquet(body: bytes) -> Table:
    """A table in Parquet.

    Raises:
        UnknownMediaType: pyarrow, which reads it, is not installed.
        InvalidInput: it is not Parquet, or says that it holds more than may be asked at once.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise UnknownMediaType(
            "Parquet is not read here: pyarrow is not installed (pip install 'steelyard[parquet]')"
        ) from error
    try:
        file = parquet.ParquetFile(io.BytesIO(body))
        head = file.metadata
        if head.num_rows > BATCH_LIMIT or head.num_rows * head.num_columns > ELEMENT_LIMIT:
            raise invalid("body", f"at most {BATCH_LIMIT} rows, found {head.num_rows}")
        sizes = (head.row_group(n).total_byte_size for n in range(head.num_row_groups))
        if (size := sum(sizes)) > 8 * ELEMENT_LIMIT:
            raise invalid("body", f"at most {8 * ELEMENT_LIMIT} bytes, found {size}")
        table = file.read(use_threads=False)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise unreadable("body", f"is not Parquet: {str(error)[:200]}") from error
    columns = zip(table.column_names, table.columns, strict=True)
    return Table({name: column.to_pylist() for name, column in columns}, table.num_rows)


def tensors_of(table: Table, signature: Signature) -> dict[str, Array]:
    """The inputs that a table means; columns that are no input are left out.

    Raises:
        InvalidInput: there is no row, an input is missing, or a cell does not fit.
    """
    if not table.rows or not table.columns:
        raise invalid("table", "there is no row, or no column")
    if all(spec.name in table.columns for spec in signature.inputs):
        return {
            spec.name: _tensor(spec, table.columns[spec.name], table) for spec in signature.inputs
        }
    if len(signature.inputs) > 1:
        missing = [spec.name for spec in signature.inputs if spec.name not in table.columns]
        raise invalid("columns", f"{', '.join(missing)} is missing")
    (spec,) = signature.inputs
    width, found = prod(spec.shape[1:]), len(table.columns)
    if width != found and -1 not in spec.shape[1:]:
        raise invalid("columns", f"must be {spec.name}, or its {width} features, found {found}")
    cells = [list(row) for row in zip(*table.columns.values(), strict=True)]
    return {spec.name: _tensor(spec, cells, table)}


def _of_rows(field: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    if len(set(names)) != len(names):
        raise unreadable(field, "two columns have the same name")
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise unreadable(
                f"{field}, row {index}", f"has {len(row)} cells for {len(names)} columns"
            )
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return Table(dict(zip(names, columns, strict=True)), len(rows))


def _tensor(spec: TensorSpec, cells: Sequence[Any], table: Table) -> Array:
    """The rows of one input: its items, each flat or in the shape of one."""
    field = f"column {spec.name}"
    if not spec.shape or -1 in spec.shape[1:]:
        raise invalid(field, f"a table does not say the shape {list(spec.shape)}; send inputs")
    item = spec.shape[1:]
    shape = checked_shape(field, [table.rows, *item], spec)
    values = list(cells)
    if table.text:
        values = [_typed(field, cell, spec.datatype) for cell in _flattened(values)]
    first = values[0]
    nested = isinstance(first, list) and bool(first) and isinstance(first[0], list)
    given = shape if nested else (table.rows, prod(item))
    return array_of(field, values, spec.datatype, given).reshape(shape)


def _flattened(cells: Sequence[Any]) -> Iterable[Any]:
    return (one for cell in cells for one in (cell if isinstance(cell, list) else [cell]))


def _typed(field: str, cell: str, datatype: str) -> Any:
    """What a cell of CSV means as this datatype."""
    kind = DTYPES[datatype]
    if kind == "object":
        return cell
    if kind == "bool" and cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    try:
        # int() would take digits of any script, and underscores.
        if not cell.isascii() or "_" in cell:
            raise ValueError
        return float(cell) if kind.startswith("float") else int(cell)
    except ValueError as fault:
        raise invalid(field, f"{brief(cell)} is not {datatype}") from fault
