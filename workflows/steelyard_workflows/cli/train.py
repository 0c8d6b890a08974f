"""``steelyard train``. Heavy imports wait until the command runs."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from steelyard.cli.output import emit, note
from steelyard.domain.errors import InvalidInput
from steelyard_workflows.cli.registered import AsJson, show

if TYPE_CHECKING:
    from steelyard_workflows.workflow import Workflow


def train(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A workflow file (.yaml), a recipe's name, or module:function of your own.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the whole workflow and its estimate; start nothing."),
    ] = False,
    as_schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of workflow files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model with Ray Train and register it as a new version."""
    from steelyard_workflows import schema
    from steelyard_workflows.workflow_file import load

    if as_schema:
        print(schema.text(), end="")
        return
    if source is None:
        raise InvalidInput("SOURCE is missing.", hint="See steelyard train --help.")
    if dry_run:
        _rehearse(load(source), as_json)
        return
    from steelyard.bootstrap import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    workflow = load(source)
    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.estimates.forecast import compare
    from steelyard_workflows.tracking.totals import accounted
    from steelyard_workflows.train import run

    with accounted(settings):
        version = run(workflow, settings, estimated=True)
    compare(version, settings)
    show(version, as_json)


def _rehearse(workflow: "Workflow", as_json: bool) -> None:
    """The workflow and what it will take, as a file that can be used."""
    from steelyard.bootstrap import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import VARIABLES
    from steelyard_workflows.workflow_file import dump

    settings = load_settings()
    check_region(settings)
    for name, value in VARIABLES.items():  # not prepare(): it makes the Ray token
        os.environ.setdefault(name, value)
    from steelyard_workflows import checks
    from steelyard_workflows.cluster import check_room
    from steelyard_workflows.estimates.forecast import forecast
    from steelyard_workflows.estimates.wording import lines
    from steelyard_workflows.loading import loaded

    check_room(settings, workflow)
    made = loaded(workflow)
    checks.check(workflow, made.network, settings)
    found = forecast(made, workflow, settings)
    document = {"workflow": workflow.model_dump(mode="json"), "estimate": found.document()}
    shown = [dump(workflow), *(f"# {line}" for line in lines(found))]
    emit(document, as_json, lambda: print("\n".join(shown)))
    note("Nothing was started.")
