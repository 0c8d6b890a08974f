"""The training side's commands."""

import typer

from steelyard_workflows.cli.compress import compress
from steelyard_workflows.cli.train import train


def add_commands(app: typer.Typer) -> None:
    """Add the training side's commands to the ``steelyard`` application."""
    app.command("train")(train)
    app.command("compress")(compress)
