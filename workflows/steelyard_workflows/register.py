"""Into the registry: the file is logged under its run, then one write makes it a version."""

import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.artifacts import download_artifacts
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema
from mlflow.types import TensorSpec as MlflowTensor
from numpy.typing import NDArray

from steelyard.bootstrap.errands import keep_evidence
from steelyard.bootstrap.registry import registry
from steelyard.domain.envelope import Envelope
from steelyard.domain.errors import Refused
from steelyard.domain.evidence import Evidence
from steelyard.domain.model_files import check_content
from steelyard.domain.model_version import (
    ONNXRUNTIME,
    Candidate,
    FlopsProfile,
    ModelVersion,
    Relation,
    Signature,
    TensorSpec,
)
from steelyard.settings import Settings
from steelyard_workflows.export import Artifact
from steelyard_workflows.interrupts import deferred

NUMPY_TYPES = {"FP32": "float32", "FP64": "float64", "FP16": "float16", "INT64": "int64",
               "INT32": "int32", "INT8": "int8", "UINT8": "uint8", "BOOL": "bool"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """What is said about an artefact when it becomes a version."""

    model: str
    run_id: str
    variant: str
    relation: Relation
    flops: FlopsProfile | None
    evidence: Evidence | None
    parameters: int | None = None
    parent: int | None = None
    recipe_sha256: str | None = None
    runtime: str = ONNXRUNTIME
    envelope: Envelope | None = None


def register(settings: Settings, artifact: Artifact, entry: Entry) -> ModelVersion:
    """Log the file in the active run and register it.

    Raises:
        Refused: the evidence is of another file, or the registry's copy is; or the file is of a
            kind that may run code, or not what its name says.
    """
    check_content(artifact.path.name, artifact.path.read_bytes())
    measured = entry.evidence.artifact_sha256 if entry.evidence else None
    if measured not in (None, artifact.sha256):
        raise Refused(
            f"Measured was a file with SHA-256 {measured}, to be registered is {artifact.sha256}; "
            "nothing was registered."
        )
    source, name = _log(artifact, entry)
    candidate = Candidate(
        model=entry.model, run_id=entry.run_id, source=source, artifact=name,
        sha256=artifact.sha256, size_bytes=artifact.size_bytes, variant=entry.variant,
        relation=entry.relation, signature=artifact.signature, parent=entry.parent,
        parameters=entry.parameters, flops=entry.flops, evidence=entry.evidence,
        recipe_sha256=entry.recipe_sha256, runtime=entry.runtime, envelope=entry.envelope,
    )  # fmt: skip
    with deferred():
        version = registry(settings).register(candidate)
        keep_evidence(settings, version)
        return version


def _log(artifact: Artifact, entry: Entry) -> tuple[str, str]:
    """The logged model's URI and its file's name inside, checked byte by byte."""
    log = _log_onnx if artifact.path.suffix == ".onnx" else _log_raw
    model_id, uri, name = log(artifact, entry)
    with tempfile.TemporaryDirectory() as scratch:
        folder = MlflowClient().get_logged_model(model_id).artifact_location
        copy = download_artifacts(f"{folder}/{name}", dst_path=scratch)
        found = sha256(Path(copy).read_bytes()).hexdigest()
    if found != artifact.sha256:
        raise Refused(
            f"The registry stored {name} with SHA-256 {found[:12]}…, measured was "
            f"{artifact.sha256[:12]}…; nothing was registered."
        )
    return uri, name


def _log_onnx(artifact: Artifact, entry: Entry) -> tuple[str, str, str]:
    """As a model that MLflow can load: its id, its URI, its file's name."""
    info = mlflow.onnx.log_model(
        onnx.load(artifact.path),
        name=entry.model,
        signature=_mlflow_signature(artifact.signature),
        input_example=_example(artifact.signature),
        onnx_execution_providers=["CPUExecutionProvider"],
        pip_requirements=[f"onnxruntime=={installed('onnxruntime')}"],
        save_as_external_data=False,
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    )
    return info.model_id, info.model_uri, str(info.flavors["onnx"]["data"])


def _log_raw(artifact: Artifact, entry: Entry) -> tuple[str, str, str]:
    """As plain bytes, for files that no replica serves: nothing in MLflow runs code for them."""
    made = mlflow.initialize_logged_model(name=entry.model, source_run_id=entry.run_id)
    client = MlflowClient()
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copyfile(artifact.path, Path(scratch) / artifact.path.name)
        client.log_model_artifacts(made.model_id, scratch)
    client.finalize_logged_model(made.model_id, "READY")
    return made.model_id, f"models:/{made.model_id}", artifact.path.name


def _example(signature: Signature) -> dict[str, NDArray[Any]]:
    """Inputs that the model takes, to see their form by: zeros, because nobody's rows belong here.

    A dimension that may vary is 2.
    """
    return {
        one.name: np.zeros([2 if n < 0 else n for n in one.shape], NUMPY_TYPES[one.datatype])
        for one in signature.inputs
    }


def _mlflow_signature(signature: Signature) -> ModelSignature:
    def schema(specs: tuple[TensorSpec, ...]) -> Schema:
        return Schema([
            MlflowTensor(np.dtype(NUMPY_TYPES[s.datatype]), s.shape, s.name) for s in specs
        ])  # fmt: skip

    return ModelSignature(schema(signature.inputs), schema(signature.outputs))
