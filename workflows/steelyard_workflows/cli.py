"""``steelyard train`` and ``steelyard compress``. Heavy imports wait until a command runs."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steelyard.cli.output import emit, note, stdout
from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import ModelVersion

if TYPE_CHECKING:
    from steelyard_workflows.workflow import Workflow

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_commands(app: typer.Typer) -> None:
    """Add the training side's commands to the ``steelyard`` application."""
    app.command("train")(train)
    app.command("compress")(compress)


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
    _show(version, as_json)


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


def compress(
    model: Annotated[
        str, typer.Argument(metavar="MODEL/VERSION", help="The version to make smaller.")
    ],
    variant: Annotated[str, typer.Option(metavar="KIND", help="For example int8_static.")],
    as_json: AsJson = False,
) -> None:
    """Make a smaller variant of a version, measure it beside its parent, register it."""
    from steelyard.bootstrap import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.compress import compress as make
    from steelyard_workflows.tracking.totals import accounted

    with accounted(settings):
        version = make(model, variant, settings)
    _show(version, as_json)


def _show(version: ModelVersion, as_json: bool) -> None:
    emit(_document(version), as_json, lambda: _print(version))
    note(f"Next: steelyard models show {version.name}")


def _document(version: ModelVersion) -> dict[str, Any]:
    evidence = version.evidence
    return {
        "model": version.model,
        "version": version.version,
        "run_id": version.run_id,
        "variant": version.variant,
        "parent": version.parent,
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        "accuracy": evidence.accuracy if evidence else None,
        "examples": evidence.examples if evidence else None,
        "agreement": evidence.agreement if evidence else None,
        "parent_accuracy": evidence.parent_accuracy if evidence else None,
        "latency_ms_p50": evidence.latency_ms_p50 if evidence else None,
        "parent_latency_ms_p50": evidence.parent_latency_ms_p50 if evidence else None,
        "flops_forward": version.flops.forward if version.flops else None,
    }


def _print(version: ModelVersion) -> None:
    evidence = version.evidence
    accuracy = f"{evidence.accuracy:.4f}" if evidence else "unknown"
    stdout.print(f"Registered {version.name} ({version.variant}), accuracy {accuracy}")
