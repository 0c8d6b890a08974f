"""One trial: one of our runs, in a process of its own that Ray Tune starts.

It is metered, checkpointed, limited and tracked like any run, nested under the sweep's page.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.tune

from steelyard.domain.errors import SteelyardError
from steelyard.settings import Settings
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.environment import prepare
from steelyard_workflows.loading import loaded
from steelyard_workflows.sweeps.plan import Trial
from steelyard_workflows.tracking import run_report
from steelyard_workflows.tracking.run import tracked
from steelyard_workflows.training.fit import Loop, fit
from steelyard_workflows.training.outcome import Fitted
from steelyard_workflows.training.stop import STOP_FILE
from steelyard_workflows.workflow import Workflow

PARENT_TAG = "mlflow.parentRunId"
SWEEP_TAG = "steelyard.sweep"
"""The sweep's run, on its trials and on the version that came out."""
TRIAL_TAG = "steelyard.trial"


def drive(
    trial: Trial, settings: Settings, sweep_id: str, folder: str, loop: Loop
) -> dict[str, Any]:  # fmt: skip
    """Run a trial in this process; how it ended. ``folder`` is where the user's code is."""
    if (settings.checkpoint_dir / sweep_id / STOP_FILE).exists():
        return {"state": "left out"}
    prepare(settings)
    os.chdir(folder)
    tags = {
        "steelyard.kind": "train",
        PARENT_TAG: sweep_id,
        SWEEP_TAG: sweep_id,
        TRIAL_TAG: str(trial.number),
    }
    name = f"trial-{trial.number}-{trial.workflow.recipe}"
    try:
        made = loaded(trial.workflow)
        with tracked(settings, trial.workflow, name, tags) as run_id:
            ray.tune.report({"run_id": run_id})
            run_report.show_data(settings, run_id, trial.workflow, made.dataset)
            with run_report.learning_shown(settings, run_id, trial.workflow):
                fitted = fit(
                    trial.workflow, made.profile, settings, run_id, made.network, made.dataset,
                    loop, reporter(trial.workflow, run_id),
                )  # fmt: skip
    except KeyboardInterrupt:
        return {"state": "cancelled"}
    except SteelyardError as error:
        return {"state": "failed", "reason": error.message}
    return ended(fitted)


def reporter(workflow: Workflow, run_id: str) -> Callable[[Entry], None]:
    """Tells Ray Tune of each epoch in the journal."""
    metric = workflow.early_stopping.metric

    def hear(entry: Entry) -> None:
        if entry.event == "report":
            said = {"epoch": int(entry.metrics["epoch"]), metric: entry.metrics[metric]}
            ray.tune.report({"run_id": run_id, **said})

    return hear


def ended(fitted: Fitted) -> dict[str, Any]:
    """The last word of a trial that ended well."""
    return {
        "state": "finished" if fitted.stopped is None else "stopped",
        "reason": fitted.stopped,
        "value": fitted.value,
        "best_epoch": fitted.epoch,
        "checkpoint": str(Path(fitted.checkpoint)),
    }
