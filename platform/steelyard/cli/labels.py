"""``steelyard labels``: what was true, when it is known."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.bootstrap.label_tables import label_rows
from steelyard.cli.output import emit, stdout
from steelyard.cli.serving import actor
from steelyard.domain.labels import labels_of
from steelyard.settings import load_settings

app = typer.Typer(help="Say what was true, when it is known.", no_args_is_help=True)


@app.callback()
def labels() -> None:
    """Say what was true, when it is known."""


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .parquet or .json.")],
    model: Annotated[
        str | None, typer.Option(help="Whose predictions, where rows name units.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Who says so.", show_default="you")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:  # fmt: skip
    """Store the true classes of predictions; the first label of a prediction stays."""
    found = labels_of(label_rows(file))
    platform = Platform(load_settings())
    added = platform.labels.add(found, source or actor(), model)
    line = f"{added.new} labels are new, {added.known} predictions had one already."
    emit(asdict(added), as_json, lambda: stdout.print(line))
