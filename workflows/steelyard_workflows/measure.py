"""``steelyard models measure``: a registered version's evidence, taken again, here and now."""

import getpass
import uuid
from pathlib import Path

from steelyard.bootstrap import Platform
from steelyard.cli.output import note
from steelyard.domain.errors import Refused
from steelyard.domain.evidence import Evidence
from steelyard.domain.evidence_record import EvidenceRecord
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows import data, recipe
from steelyard_workflows.booking.metering import charge_for, stopwatch
from steelyard_workflows.data import Split
from steelyard_workflows.evaluation.evidence import measure, subject
from steelyard_workflows.evaluation.runtime import check_runs
from steelyard_workflows.tracking.run import workflow_of
from steelyard_workflows.workflow import Workflow


def measure_again(model: str, number: int, settings: Settings) -> EvidenceRecord:
    """Measure a version beside its parent on its own test rows and keep the new record.

    What it takes is booked as evaluation to the version's run. The records that there are stay.

    Raises:
        NotFound: there is no such version.
        Refused: bytes or evidence were changed, nothing here runs the file, nothing says how it
            was trained, or the test rows are not those that it was registered with.
    """
    platform = Platform(settings)
    version = platform.registry.version(model, number)
    check_runs(version)
    parent = platform.registry.version(model, version.parent) if version.parent else None
    known = platform.gates.records(version)
    workflow = workflow_of(settings, parent or version)
    split = data.load(recipe.of(workflow).data, workflow).test
    _check_rows(version, split, [record.evidence for record in known])
    evidence = _measure(platform, workflow, version, parent, split)
    note(f"  accuracy {evidence.accuracy:.4f} on {evidence.examples} rows, "
         f"p50 {evidence.latency_ms_p50} ms")  # fmt: skip
    return platform.gates.add(version, evidence, f"user:{getpass.getuser()}")


def _measure(
    platform: Platform, workflow: Workflow, version: ModelVersion, parent: ModelVersion | None,
    split: Split,
) -> Evidence:  # fmt: skip
    settings = platform.settings
    path = _fetch(platform, version)
    before = _fetch(platform, parent) if parent else None
    charge = charge_for(settings, version.run_id, version.model, 1, workflow.team)
    # Measuring twice is booked twice.
    resource = f"evaluate/{version.run_id}/{uuid.uuid4().hex[:8]}"
    with (
        stopwatch(settings, charge, resource, is_attempt=False) as watch,
        watch.measure("evaluate") as work,
    ):
        own, beside = subject(path, version.runtime), subject(before) if before else None
        measured = measure(own, split, beside, platform.device_power)
        work.count(measured.own, version.flops)
        if parent is not None:
            work.items, work.datatype = measured.inferences, None  # part of it is the parent's
            work.flop = measured.flop(version.flops, parent.flops)
    return measured.evidence


def _fetch(platform: Platform, version: ModelVersion) -> Path:
    return platform.registry.fetch(version, platform.settings.cache_dir)


def _check_rows(version: ModelVersion, split: Split, known: list[Evidence]) -> None:
    digests = {one.data_sha256 for one in known} - {None}
    if digests and split.sha256 not in digests:
        raise Refused(
            f"The test rows of {version.name} have changed: their SHA-256 is {split.sha256}, "
            f"measured was on {', '.join(sorted(d for d in digests if d))}.",
            "Evidence on other rows cannot be compared. Restore the rows, or train again.",
        )
