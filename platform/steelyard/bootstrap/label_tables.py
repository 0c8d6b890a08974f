"""Tables of labels, as files or as bodies."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any


def label_rows(file: Path) -> "Iterator[Mapping[str, Any]]":
    """The rows of a table of labels. Raises InvalidInput where it is none."""
    from steelyard.adapters.label_files import read_rows

    return read_rows(file)


def sent_label_rows(table: IO[bytes], suffix: str) -> "Iterator[Mapping[str, Any]]":
    """The same of a table that was sent, of the kind that a file of this suffix has."""
    from steelyard.adapters.label_files import rows_of

    return rows_of(table, suffix, "body")
