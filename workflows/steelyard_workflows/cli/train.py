"""``steelyard train``. Heavy imports wait until the command runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from steelyard.cli.output import emit, note
from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.cli.afterwards import finish, follow
from steelyard_workflows.cli.jobs import (
    Address,
    Detach,
    JobSettings,
    Token,
    WorkingDir,
    address_for,
    submit,
)
from steelyard_workflows.cli.registered import AsJson
from steelyard_workflows.cli.sweep import rehearse

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
    afterwards: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL/VERSION",
            help="Train nothing: make what follows training, as far as this version lacks it.",
        ),
    ] = None,
    address: Address = None,
    working_dir: WorkingDir = None,
    submission_id: Token = None,
    setting: JobSettings = None,
    detach: Detach = False,
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
    if afterwards is not None:
        if address:
            fault = Fault("--afterwards", "is made here, not on the cluster that --address names")
            raise InvalidInput(str(fault), (fault,))
        follow(afterwards, source, dry_run, as_json)
        return
    if source is None:
        raise InvalidInput("SOURCE is missing.", hint="See steelyard train --help.")
    if dry_run:
        _rehearse(load(source), as_json)
        return
    place = address_for(address, working_dir, submission_id, setting, detach)
    if place:
        submit(source, place, working_dir, submission_id, setting or (), detach, as_json)
        return
    from steelyard.bootstrap.errands import check_region
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
    finish(version, workflow, settings, as_json)


def _rehearse(workflow: "Workflow", as_json: bool) -> None:
    """The workflow and what it will take, as a file that can be used."""
    from steelyard.bootstrap.errands import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import set_variables
    from steelyard_workflows.workflow_file import dump

    settings = load_settings()
    check_region(settings)
    set_variables()  # not prepare(): it makes the Ray token
    if workflow.sweep is not None:
        rehearse(workflow, settings, as_json)
        return
    from steelyard_workflows import checks
    from steelyard_workflows.afterwards import plan
    from steelyard_workflows.cluster import check_room
    from steelyard_workflows.estimates.forecast import forecast
    from steelyard_workflows.estimates.wording import lines
    from steelyard_workflows.loading import loaded

    check_room(settings, workflow)
    made = loaded(workflow)
    checks.check(workflow, made.network, settings)
    checks.check_afterwards(workflow, made)
    found = forecast(made, workflow, settings)
    document = {"workflow": workflow.model_dump(mode="json"), "estimate": found.document(),
                "afterwards": plan.document(workflow)}  # fmt: skip
    shown = [dump(workflow), *(f"# {line}" for line in (*lines(found), *plan.lines(workflow)))]
    emit(document, as_json, lambda: print("\n".join(shown)))
    note("Nothing was started.")
