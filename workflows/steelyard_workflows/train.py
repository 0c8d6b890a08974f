"""``steelyard train``: a workflow becomes a registered version, its whole cost in the ledger."""

from steelyard.cli.output import note
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows import checks
from steelyard_workflows.cluster import connected
from steelyard_workflows.estimates.forecast import announced
from steelyard_workflows.loading import loaded
from steelyard_workflows.publish import publish
from steelyard_workflows.sweeps.run import sweep
from steelyard_workflows.tracking import run_report
from steelyard_workflows.tracking.run import tracked, wait_until_sent
from steelyard_workflows.training.fit import Loop, fit
from steelyard_workflows.training.loop import train_worker
from steelyard_workflows.workflow import Workflow


def run(
    workflow: Workflow, settings: Settings, loop: Loop = train_worker, *, estimated: bool = False
) -> ModelVersion:  # fmt: skip
    """Train, export, evaluate, register. Progress goes to stderr.

    A workflow with a sweep trains several times, and registers the best.
    ``loop`` is what each worker runs. ``estimated``: say before what the run will take, and keep
    it as a tag of the run.

    Raises:
        InvalidInput: the recipe cannot be imported, or its data or network cannot be used.
        Refused: the cluster or the disk is too small, or the exported model differs from the
            trained one.
        Unavailable: the configured Ray cluster does not answer.
        SteelyardError: training failed more often than ``failure.max_retries`` allows.
        KeyboardInterrupt: Ctrl-C; the attempt is booked as cancelled, nothing is registered.
    """
    if workflow.sweep is not None:
        return sweep(workflow, settings, loop, estimated=estimated)
    made = loaded(workflow)
    network, dataset, profile = made.network, made.dataset, made.profile
    checks.check(workflow, network, settings)
    checks.check_afterwards(workflow, made)
    tags = {"steelyard.kind": "train", **(announced(made, workflow, settings) if estimated else {})}
    with (
        connected(settings, workflow),
        tracked(settings, workflow, f"train-{workflow.recipe}", tags) as run,
    ):
        note(f"Run {run}: {workflow.model}, {workflow.scaling.workers} workers")
        run_report.show_data(settings, run, workflow, dataset)
        with run_report.learning_shown(settings, run, workflow):
            fit(workflow, profile, settings, run, network, dataset, loop)
        run_report.keep_weights(settings, run, network)
        wait_until_sent(settings, run)
        version = publish(workflow, profile, settings, run, network, dataset)
        run_report.link(settings, run, version)
        return version
