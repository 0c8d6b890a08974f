"""What a plain loop has left in its session's folder becomes an artefact and a version."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from steelyard.bootstrap import Platform
from steelyard.cli.output import note
from steelyard.domain.envelope import Envelope, envelope_of
from steelyard.domain.model_version import FlopsProfile, ModelVersion
from steelyard.settings import Settings
from steelyard_workflows import saved_files
from steelyard_workflows.booking.metering import Charge, stopwatch
from steelyard_workflows.data import Split
from steelyard_workflows.evaluation.evidence import measure, subject
from steelyard_workflows.export import artifact
from steelyard_workflows.register import Entry, register
from steelyard_workflows.tracking.run import wait_until_sent
from steelyard_workflows.tracking.run_page import file_for, log_artifact, set_tags
from steelyard_workflows.training_envelope import told
from steelyard_workflows.user_code.keeping import (
    ENVELOPE,
    MODEL,
    TEST,
    VERSION,
    WEIGHTS,
)


def keep_weights(settings: Settings, run_id: str, folder: Path) -> None:
    """The best weights as an artefact of the run, also of one that failed."""
    if (folder / WEIGHTS).exists():
        file = file_for(settings, run_id, WEIGHTS)
        shutil.move(folder / WEIGHTS, file)
        log_artifact(settings, run_id, file, "checkpoints")


def publish(settings: Settings, charge: Charge, folder: Path) -> ModelVersion | None:
    """Judge the exported model on the loop's test rows and register it; None if there is none.

    ``charge`` is for one device, on which it is judged. Without test rows nothing is known of its
    quality: it is registered without evidence, and takes no traffic.
    """
    if not (folder / VERSION).exists():
        return None
    about = json.loads((folder / VERSION).read_text(encoding="utf-8"))
    profile = _profile(about["flops"])
    entry = Entry(
        model=charge.model, run_id=charge.run_id, variant="fp32", relation="trained",
        flops=profile, parameters=about["parameters"], evidence=None, envelope=_envelope(folder),
    )  # fmt: skip
    if (folder / TEST).exists():
        entry = _judged(settings, charge, folder, entry)
    else:
        note("  no test rows were given: the version has no evidence and takes no traffic")
    wait_until_sent(settings, charge.run_id)
    mlflow.set_tracking_uri(settings.registry_uri)
    mlflow.set_registry_uri(settings.registry_uri)
    with mlflow.start_run(run_id=charge.run_id, log_system_metrics=False):
        version = register(settings, artifact(folder / MODEL), entry)
    set_tags(settings, charge.run_id, {"steelyard.version": version.name})
    return version


def _envelope(folder: Path) -> Envelope | None:
    """That of the rows which the loop learned from, if it gave any."""
    file = folder / ENVELOPE
    return told(envelope_of(file.read_text(encoding="utf-8"))) if file.exists() else None


def _judged(settings: Settings, charge: Charge, folder: Path, entry: Entry) -> Entry:
    rows = saved_files.arrays(folder / TEST)
    inputs, labels = rows["inputs"], rows["labels"]
    split = Split(inputs, labels, np.arange(len(labels), dtype=np.int64))
    with (
        stopwatch(settings, charge, f"evaluate/{charge.run_id}", is_attempt=False) as watch,
        watch.measure("evaluate") as work,
    ):
        measured = measure(subject(folder / MODEL), split, power=Platform(settings).device_power)
        work.count(measured.inferences, entry.flops)
    found = measured.evidence
    note(f"  test accuracy {found.accuracy:.4f} on {found.examples} rows")
    return replace(entry, evidence=found)


def _profile(values: dict[str, Any] | None) -> FlopsProfile | None:
    if values is None:
        return None
    return FlopsProfile(**{**values, "unsupported": tuple(values["unsupported"])})
