"""The training side's commands."""

import typer

from steelyard.cli import models
from steelyard_workflows.cli import jobs
from steelyard_workflows.cli.compress import compress
from steelyard_workflows.cli.measure import measure
from steelyard_workflows.cli.run import run
from steelyard_workflows.cli.train import train


def add_commands(app: typer.Typer) -> None:
    """Add the training side's commands to the ``steelyard`` application."""
    app.command("train")(train)
    app.command("compress")(compress)
    app.command("run")(run)
    models.app.command("measure")(measure)
    app.add_typer(jobs.app, name="jobs")
