"""What ``steelyard train`` does once a version is registered. Heavy imports wait until then."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from steelyard.cli.output import emit, note, stdout
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard_workflows.cli.registered import show
from steelyard_workflows.cli.sweep import sweep_run

if TYPE_CHECKING:
    from steelyard.domain.model_version import ModelVersion
    from steelyard.settings import Settings
    from steelyard_workflows.workflow import Workflow


def finish(
    version: "ModelVersion", workflow: "Workflow", settings: "Settings", as_json: bool
) -> None:
    """Make what a workflow asks for of its registered version, and say what became of all of it.

    Raises:
        SteelyardError: not all of it could be made; what could is there, and is shown.
    """
    from steelyard_workflows.afterwards.carry_out import carry_out
    from steelyard_workflows.tracking.totals import accounted

    asked = workflow.evaluations or workflow.variants or workflow.rollout
    try:
        with accounted(settings) if asked else nullcontext():
            after = carry_out(version, workflow, settings)
    except KeyboardInterrupt:
        note(
            f"{version.name} is registered; what is missing is done by: "
            f"steelyard train --afterwards {version.name}"
        )
        raise
    show(version, as_json, after.document(), sweep_run(version, workflow, settings))
    after.require_complete()


def follow(reference: str, source: str | None, dry_run: bool, as_json: bool) -> None:
    """Make what a registered version still lacks, without training.

    ``source`` says what: evaluations, variants and rollout of another workflow than the one that
    the version was trained with.

    Raises:
        InvalidInput: the reference names no version, or ``source`` is about another model.
        Refused: it is a variant, or nothing says how it was trained.
    """
    from steelyard.bootstrap.errands import check_region
    from steelyard.bootstrap.registry import registry
    from steelyard.cli.serving import version_of
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    model, number = version_of(reference)
    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.tracking.run import workflow_of

    version = registry(settings).version(model, number)
    if version.parent is not None:
        raise Refused(
            f"{version.name} is a variant itself ({version.variant}).",
            f"Name the version that was trained: {model}/{version.parent}.",
        )
    workflow = _asked(workflow_of(settings, version), source, version)
    _check(workflow)
    if dry_run:
        _rehearse(workflow, as_json)
        return
    finish(version, workflow, settings, as_json)


def _asked(trained: "Workflow", source: str | None, version: "ModelVersion") -> "Workflow":
    """The version's own workflow, with what is to follow taken from ``source``."""
    from steelyard_workflows.workflow_file import load

    if source is None:
        return trained
    given = load(source)
    if given.model != version.model:
        fault = Fault("model", f"{source} is about {given.model}, {version.name} is not")
        raise InvalidInput(str(fault), (fault,), "Name a version of the same model.")
    parts = ("evaluations", "variants", "rollout")
    return trained.model_copy(update={part: getattr(given, part) for part in parts})


def _check(workflow: "Workflow") -> None:
    from steelyard_workflows import checks
    from steelyard_workflows.loading import loaded

    checks.check_afterwards(workflow, loaded(workflow))


def _rehearse(workflow: "Workflow", as_json: bool) -> None:
    from steelyard_workflows.afterwards import plan

    shown = plan.lines(workflow) or ["afterwards: nothing"]
    document = {"afterwards": plan.document(workflow)}
    emit(document, as_json, lambda: stdout.print("\n".join(shown), markup=False))
    note("Nothing was started.")
