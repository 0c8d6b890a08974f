"""A trained network becomes a version: exported, judged on its own test split, registered."""

import tempfile
from pathlib import Path

from torch import nn

from steelyard.bootstrap import Platform
from steelyard.cli.output import note
from steelyard.domain.model_version import FlopsProfile, ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import charge_for, stopwatch
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.evidence import measure, subject
from steelyard_workflows.export import INFERENCES, export
from steelyard_workflows.register import Entry, register
from steelyard_workflows.training_envelope import training_envelope
from steelyard_workflows.workflow import Workflow


def publish(
    workflow: Workflow, profile: FlopsProfile, settings: Settings, run_id: str,
    network: nn.Module, dataset: Dataset,
) -> ModelVersion:  # fmt: skip
    """Export and evaluate in this process, on one device, and register the result.

    The test labels are the workflow's own: a labelling fault in them goes unseen, as it would
    for the team that has it.
    """
    split = dataset.test
    charge = charge_for(settings, run_id, workflow.model, 1, workflow.team)
    with (
        tempfile.TemporaryDirectory() as scratch,
        stopwatch(settings, charge, f"evaluate/{run_id}", is_attempt=False) as watch,
    ):
        with watch.measure("train") as work:
            artifact = export(network, split.inputs, Path(scratch))
            work.count(INFERENCES, profile)
        with watch.measure("evaluate") as work:
            measured = measure(subject(artifact.path), split, power=Platform(settings).device_power)
            work.count(measured.inferences, profile)
        evidence = measured.evidence
        note(f"  test accuracy {evidence.accuracy:.4f} on {evidence.examples} rows")
        entry = Entry(
            model=workflow.model,
            run_id=run_id,
            variant="fp32",
            relation="trained",
            flops=profile,
            evidence=evidence,
            parameters=sum(p.numel() for p in network.parameters()),
            envelope=training_envelope(dataset, artifact.signature),
        )
        return register(settings, artifact, entry)
