"""``steelyard run``. Heavy imports wait until the command runs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.output import note
from steelyard.domain.errors import Fault, InvalidInput


def run(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="The script and its arguments.")
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="The model that it trains.")],
    team: Annotated[str | None, typer.Option(metavar="NAME", help="Who pays.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Who answers for it.")] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="Devices that a plain loop reserves; else the CPUs it may use."),
    ] = None,
) -> None:
    """Run a training script of your own: metered, tracked, and registered when it asks for it."""
    if Path(command[0]).name == "steelyard":
        fault = Fault("COMMAND", "keeps its own books: start it without steelyard run")
        raise InvalidInput(str(fault), (fault,))
    variables = dict(os.environ)
    from steelyard.bootstrap.errands import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import set_variables

    settings = load_settings()
    check_region(settings)
    set_variables()  # for us; the script's environment stays its own
    from steelyard_workflows.tracking.totals import accounted
    from steelyard_workflows.user_code.running import run as run_script
    from steelyard_workflows.user_code.session import Session

    with accounted(settings):
        done = run_script(command, Session(model, team, owner), settings, variables, devices)
    if done.version is not None:
        note(f"Registered {done.version.name} ({done.version.variant})")
        note(f"Next: steelyard models show {done.version.name}")
    raise typer.Exit(done.code)
