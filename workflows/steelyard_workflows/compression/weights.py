"""The trained weights that a run kept, and the proof that they are the registered version's.

The run keeps them for people to train on, unsigned; the version's file is what has a digest. So
the network is built, exported again, and compared with the file.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import onnx
import torch
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows import saved_files
from steelyard_workflows.data import Dataset
from steelyard_workflows.export import export
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.workflow import Workflow

FILE = "checkpoints/best.pt"


def kept(
    version: ModelVersion, path: Path, recipe: Recipe, workflow: Workflow, dataset: Dataset,
    settings: Settings, scratch: Path,
) -> Mapping[str, torch.Tensor]:  # fmt: skip
    """The weights of a version's network.

    Raises:
        Refused: the run kept none, or they do not give the version's file.
    """
    state = _loaded(version, settings, scratch)
    network = recipe.build(workflow)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise Refused(
            f"The kept weights of {version.name} do not fit recipe {workflow.recipe}: {error}",
            "The recipe's code was changed after the training: train again.",
        ) from error
    again = export(network, dataset.test.inputs, scratch)
    if content_sha256(again.path) != content_sha256(path):
        raise Refused(
            f"The kept weights of {version.name} do not give its registered file.",
            "They were changed, or another version of torch exports them: train again.",
        )
    return state


def _loaded(version: ModelVersion, settings: Settings, scratch: Path) -> Mapping[str, torch.Tensor]:
    try:
        file = download_artifacts(
            run_id=version.run_id, artifact_path=FILE, dst_path=str(scratch),
            tracking_uri=settings.registry_uri,
        )  # fmt: skip
        state: Mapping[str, torch.Tensor] = saved_files.state(Path(file))["network"]
    except (MlflowException, OSError, KeyError) as error:
        raise Refused(
            f"The trained weights of {version.name} are not with its run {version.run_id}: {error}",
            "Kinds that change the file alone need no weights: int8_static, int8_dynamic, fp16.",
        ) from error
    except Refused as refused:
        found = f"The kept weights of {version.name}: {refused.message}"
        raise Refused(found, refused.hint) from refused
    return state


def content_sha256(path: Path) -> str:
    """Digest of all that a file computes with; notes of where its code stood are left out."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    return sha256(model.SerializeToString(deterministic=True)).hexdigest()
