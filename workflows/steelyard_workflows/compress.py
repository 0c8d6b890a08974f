"""``steelyard compress``: a variant of a version, measured beside it, its own cost booked."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from steelyard.bootstrap import registry
from steelyard.cli.output import note
from steelyard.domain.compute import inherited
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.model_version import (
    Evidence,
    ModelVersion,
    VersionRef,
    parse_ref,
)
from steelyard.settings import Settings
from steelyard_workflows import data, recipe
from steelyard_workflows.booking.metering import Stopwatch, charge_for, stopwatch
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.evidence import measure
from steelyard_workflows.export import Artifact, artifact
from steelyard_workflows.register import Entry, register
from steelyard_workflows.tracking.run import tracked, workflow_of
from steelyard_workflows.tracking.run_page import set_tags
from steelyard_workflows.variants import Kind, kind_named

CALIBRATION_ROWS = 512


@dataclass(frozen=True, slots=True)
class Parent:
    """The version that is made smaller, with its verified file and its data."""

    version: ModelVersion
    path: Path
    dataset: Dataset


def compress(reference: str, kind_name: str, settings: Settings) -> ModelVersion:
    """Make, measure and register a variant of ``MODEL/VERSION``.

    Raises:
        InvalidInput: no such kind of variant, or the reference names no single version.
        NotFound: the parent does not exist.
        Refused: the parent's bytes were changed, it is a variant itself, its training is not
            known, or the step did not make it smaller.
        KeyboardInterrupt: Ctrl-C; the attempt is booked as cancelled, nothing is registered.
    """
    kind = kind_named(kind_name)
    version = _parent(parse_ref(reference), reference, settings)
    workflow = workflow_of(settings, version)
    path = registry(settings).fetch(version, settings.cache_dir)
    parent = Parent(version, path, data.load(recipe.of(workflow).data, workflow))
    tags = {"steelyard.kind": "compress", "steelyard.variant": kind.name,
            "steelyard.parent": version.name, "mlflow.parentRunId": version.run_id}  # fmt: skip
    with tracked(settings, workflow, f"compress-{kind.name}", tags) as run_id:
        note(f"Run {run_id}: {version.name} to {kind.name}")
        charge = charge_for(settings, run_id, version.model, 1, workflow.team)
        with (
            tempfile.TemporaryDirectory() as scratch,
            stopwatch(settings, charge, f"compress/{run_id}", is_attempt=True) as watch,
        ):
            made = _make(kind, parent, Path(scratch), watch)
            evidence = _evaluate(made, parent, watch)
            variant = register(settings, made, _entry(kind, parent, run_id, evidence))
            set_tags(settings, run_id, {"steelyard.version": variant.name})
            return variant


def _parent(ref: VersionRef, reference: str, settings: Settings) -> ModelVersion:
    models = registry(settings)
    number = ref.version
    if ref.alias is not None:
        number = models.aliases(ref.model).get(ref.alias)
    if number is None:
        fault = Fault("model", f"{reference!r} names no single version")
        raise InvalidInput(str(fault), (fault,), f"Write {ref.model}/1, for example.")
    version = models.version(ref.model, number)
    if version.variant != "fp32":
        raise Refused(
            f"{version.name} is a variant itself ({version.variant}).",
            f"Compress its parent, {version.model}/{version.parent}.",
        )
    return version


def _make(kind: Kind, parent: Parent, into: Path, watch: Stopwatch) -> Artifact:
    inputs = parent.dataset.train.inputs
    # From everywhere: a source may be sorted by what its rows are.
    rows = inputs[:: max(1, len(inputs) // CALIBRATION_ROWS)][:CALIBRATION_ROWS]
    with watch.measure("compress") as work:
        made = artifact(kind.make(parent.path, rows, into))
        work.count(len(rows), parent.version.flops)
    before = parent.version.size_bytes
    note(f"  {made.size_bytes:,} bytes, {made.size_bytes / before:.2f} of {before:,}")
    return made


def _evaluate(made: Artifact, parent: Parent, watch: Stopwatch) -> Evidence:
    with watch.measure("evaluate") as work:
        measured = measure(made.path, parent.dataset.test, parent.path)
        work.count(measured.inferences, parent.version.flops)
        work.datatype = None  # half of it in the parent's, half in the variant's
    evidence = measured.evidence
    note(
        f"  accuracy {evidence.accuracy:.4f} (parent {evidence.parent_accuracy:.4f}), "
        f"p50 {evidence.latency_ms_p50} ms (parent {evidence.parent_latency_ms_p50} ms)"
    )
    return evidence


def _entry(kind: Kind, parent: Parent, run_id: str, evidence: Evidence) -> Entry:
    version, flops = parent.version, parent.version.flops
    return Entry(
        model=version.model,
        run_id=run_id,
        variant=kind.name,
        relation=kind.relation,
        flops=inherited(flops, kind.flops_method, kind.datatype) if flops else None,
        evidence=evidence,
        parameters=version.parameters,
        parent=version.version,
    )
