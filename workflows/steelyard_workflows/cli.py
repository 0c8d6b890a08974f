"""``steelyard train`` and ``steelyard compress``. Heavy imports wait until a command runs."""

from typing import Annotated, Any

import typer

from steelyard.cli.output import emit, note, stdout
from steelyard.domain.model_version import ModelVersion

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_commands(app: typer.Typer) -> None:
    """Add the training side's commands to the ``steelyard`` application."""
    app.command("train")(train)
    app.command("compress")(compress)


def train(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A workflow file (.yaml) or a recipe's name.")
    ],
    as_json: AsJson = False,
) -> None:
    """Train a model with Ray Train and register it as a new version."""
    from steelyard.bootstrap import check_region, collect
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare
    from steelyard_workflows.workflow_file import load

    workflow = load(source)
    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.train import run

    version = run(workflow, settings)
    collect(settings)
    _show(version, as_json)


def compress(
    model: Annotated[
        str, typer.Argument(metavar="MODEL/VERSION", help="The version to make smaller.")
    ],
    variant: Annotated[str, typer.Option(metavar="KIND", help="For example int8_static.")],
    as_json: AsJson = False,
) -> None:
    """Make a smaller variant of a version, measure it beside its parent, register it."""
    from steelyard.bootstrap import check_region, collect
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.compress import compress as make

    version = make(model, variant, settings)
    collect(settings)
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
