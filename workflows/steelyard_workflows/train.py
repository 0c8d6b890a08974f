"""``steelyard train``: a workflow becomes a registered version, its whole cost in the ledger."""

from steelyard.cli.output import note
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows import flops, recipe
from steelyard_workflows.cluster import connected
from steelyard_workflows.fit import Loop, fit
from steelyard_workflows.loop import train_worker
from steelyard_workflows.publish import publish
from steelyard_workflows.tracking import tracked
from steelyard_workflows.workflow import Workflow


def run(workflow: Workflow, settings: Settings, loop: Loop = train_worker) -> ModelVersion:
    """Train, export, evaluate, register. Progress goes to stderr.

    ``loop`` is what each worker runs.

    Raises:
        InvalidInput: the recipe cannot be imported.
        Refused: the cluster is too small, or the exported model differs from the trained one.
        Unavailable: the configured Ray cluster does not answer.
        SteelyardError: training failed more often than ``failure.max_retries`` allows.
        KeyboardInterrupt: Ctrl-C; the attempt is booked as cancelled, nothing is registered.
    """
    made = recipe.of(workflow)
    network, dataset = made.build(workflow), made.data(workflow)
    classes = int(dataset.train.labels.max()) + 1
    profile = flops.profile(network, dataset.train.inputs.shape[1:], classes)
    with (
        connected(settings, workflow.scaling.cpus),
        tracked(settings, workflow, f"train-{workflow.recipe}", {"steelyard.kind": "train"}) as run,
    ):
        note(f"Run {run}: {workflow.model}, {workflow.scaling.workers} workers")
        fit(workflow, profile, settings, run, network, dataset, loop)
        return publish(workflow, profile, settings, run, network, dataset)
