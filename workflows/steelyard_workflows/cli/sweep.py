"""What ``steelyard train`` says of a sweep. Heavy imports wait until then."""

from typing import TYPE_CHECKING

from steelyard.cli.output import emit, note

if TYPE_CHECKING:
    from steelyard.domain.model_version import ModelVersion
    from steelyard.settings import Settings
    from steelyard_workflows.workflow import Workflow


def rehearse(workflow: "Workflow", settings: "Settings", as_json: bool) -> None:
    """The workflow, its drawn trials and what they will take at most, as a file for use."""
    from steelyard_workflows.afterwards import plan
    from steelyard_workflows.sweeps.forecast import sweep_forecast, told, trial_lines
    from steelyard_workflows.sweeps.prepare import prepared
    from steelyard_workflows.workflow_file import dump

    ready = prepared(workflow, settings)
    found = sweep_forecast(workflow, ready, settings)
    document = {
        "workflow": workflow.model_dump(mode="json"),
        "trials": [{"number": t.number, "values": dict(t.values)} for t in ready.trials],
        "estimate": found.document(),
        "afterwards": plan.document(workflow),
    }
    told_lines = (*trial_lines(ready.trials), *told(found), *plan.lines(workflow))
    shown = [dump(workflow), *(f"# {line}" for line in told_lines)]
    emit(document, as_json, lambda: print("\n".join(shown)))
    note("Nothing was started.")


def sweep_run(
    version: "ModelVersion", workflow: "Workflow", settings: "Settings"
) -> str | None:  # fmt: skip
    """The run of the sweep that a version came out of; None when it is from a single run."""
    if workflow.sweep is None:
        return None
    from steelyard_workflows.sweeps.run import sweep_of

    return sweep_of(settings, version)
