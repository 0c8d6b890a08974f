"""Data on stdout, progress and messages on stderr."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

SCHEMA_VERSION = 1

FILE_WIDTH = 160
"""Columns when the output is no terminal: a table in a log must not be cut."""


class Progress(Console):
    """The console of stderr. When nobody reads it any more, the work goes on without a word."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program, and with it a training of hours."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _console(kind: type[Console], to_stderr: bool) -> Console:
    found = kind(stderr=to_stderr, highlight=False, soft_wrap=True)
    return (
        found
        if found.is_terminal
        else kind(stderr=to_stderr, highlight=False, soft_wrap=True, width=FILE_WIDTH)
    )


stdout = _console(Console, to_stderr=False)
stderr = _console(Progress, to_stderr=True)


def emit(value: dict[str, Any], as_json: bool, render: Callable[[], None]) -> None:
    """Print a result: as one JSON document with ``schema_version``, or for people."""
    if as_json:
        document = {"schema_version": SCHEMA_VERSION, **value}
        print(json.dumps(document, indent=2, default=str))  # a Fraction becomes decimal text
    else:
        render()


def note(text: str) -> None:
    """A line of progress."""
    stderr.print(text, markup=False)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A Rich table; None shows as an en dash, because unknown is not 0."""
    result = Table(title=title, title_justify="left")
    for column in columns:
        result.add_column(column, justify="left" if column[:1].islower() else "right")
    for row in rows:
        result.add_row(*("–" if cell is None else str(cell) for cell in row))
    return result
