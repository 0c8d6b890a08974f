"""Variants for devices, of a version that was trained in this process: no Ray."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import registry
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.compress import compress
from steelyard_workflows.evaluation.runtime import opened, outputs_of
from steelyard_workflows.loading import loaded
from steelyard_workflows.variants import bundle_file
from steelyard_workflows.variants.executorch import Program
from steelyard_workflows.variants.kind import Value
from steelyard_workflows.variants.tflite import Interpreted
from steelyard_workflows.workflow_file import parse

from .trained_here import trained

pytestmark = [
    pytest.mark.integration,
    # mlflow 3.17 says so of its own type hints when it logs a model
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@pytest.fixture(scope="module")
def parent(settings: Settings) -> ModelVersion:
    """The digits network after four epochs, registered with its weights kept."""
    return trained(settings, "recipe: digits_cnn\n")


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Rows that no version learned from."""
    return loaded(parse("recipe: digits_cnn\n")).dataset.test.inputs


def fetched(settings: Settings, version: ModelVersion) -> Path:
    """The version's file, out of the registry."""
    return registry(settings).fetch(version, settings.cache_dir)


def refused_at_deploy(settings: Settings, version: ModelVersion) -> str:
    """What is said to whoever would have replicas serve it."""
    with pytest.raises(Refused) as caught:
        Platform(settings).rollouts.deploy(version.model, version.version, "ada")
    return str(caught.value)


@pytest.mark.parametrize("kind", ["onnx_bundle", "int8_static+onnx_bundle"])
def test_a_bundle_is_a_version_with_evidence_that_no_replica_serves(
    settings: Settings, parent: ModelVersion, rows: np.ndarray, kind: str
) -> None:
    """What is judged is the model inside; its manifest names its parent and its recipe."""
    made = compress(parent.name, kind, settings)
    assert (made.variant, made.artifact, made.parent) == (kind, "bundle.zip", parent.version)
    assert made.evidence is not None and made.evidence.agreement is not None
    assert made.evidence.agreement >= (0.95 if "int8" in kind else 1.0)
    assert made.evidence.hardware["runtime"].startswith("onnxruntime")
    bundle = bundle_file.read(fetched(settings, made))
    assert bundle.manifest["recipe_sha256"] == made.recipe_sha256
    assert bundle.manifest["parent"] == {"name": parent.name, "sha256": parent.sha256}
    assert compress(parent.name, kind, settings) == made
    assert "bundle.zip" in refused_at_deploy(settings, made)


def test_a_program_for_devices_answers_as_its_parent_does(
    settings: Settings, parent: ModelVersion, rows: np.ndarray
) -> None:
    """Every test row to 1e-4, one at a time: batches are unknown, not 0."""
    pytest.importorskip("executorch")
    made = compress(parent.name, "executorch", settings)
    assert (made.artifact, made.relation) == ("model.pte", "exported")
    content = fetched(settings, made).read_bytes()
    found = outputs_of(Program(content), rows)
    expected = opened(fetched(settings, parent)).answer(rows)
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    evidence = made.evidence
    assert evidence is not None and evidence.agreement == 1.0 and evidence.own is not None
    assert [speed.batch for speed in evidence.own.speeds] == [1]
    assert evidence.hardware["runtime"].startswith("executorch ")
    assert content[4:8] == b"ET12" and b"PK\3\4" not in content[:64]
    assert "model.pte" in refused_at_deploy(settings, made)


@pytest.mark.parametrize(
    ("kind", "ratio"), [("executorch_int8", 0.35), ("pruned_structured+executorch_int8", 0.2)]
)
def test_a_program_in_int8_is_smaller_and_says_almost_the_same(
    settings: Settings, parent: ModelVersion, kind: str, ratio: float
) -> None:
    """It follows a step that changes the network, and is judged like any kind."""
    pytest.importorskip("executorch")
    made = compress(parent.name, kind, settings)
    assert made.artifact == "model.pte" and made.size_bytes <= ratio * parent.size_bytes
    assert made.evidence is not None and made.evidence.agreement is not None
    assert made.evidence.agreement >= 0.9
    assert "model.pte" in refused_at_deploy(settings, made)


def test_the_same_recipe_gives_the_same_program(settings: Settings, parent: ModelVersion) -> None:
    """Deleted and made again, it has the same digest."""
    pytest.importorskip("executorch")
    first = compress(parent.name, "executorch_int8", settings)
    client = MlflowClient(settings.registry_uri)
    client.delete_model_version(first.model, str(first.version))
    second = compress(parent.name, "executorch_int8", settings)
    assert second.version != first.version and second.sha256 == first.sha256


@pytest.mark.parametrize("kind", ["executorch", "pruned_structured+executorch_int8"])
def test_a_kind_whose_library_is_missing_is_refused_before_anything_starts(
    settings: Settings, parent: ModelVersion, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The message says how to install it; no version, no run."""
    versions = registry(settings).versions(parent.model)
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(Refused, match=r'executorch is not installed: pip install ".*\[edge\]"'):
        compress(parent.name, kind, settings, {"epochs": 1} if "pruned" in kind else {})
    assert registry(settings).versions(parent.model) == versions


def test_a_litert_file_answers_as_its_parent_does(
    settings: Settings, parent: ModelVersion, rows: np.ndarray
) -> None:
    """Converted in the other interpreter, where there is one; every test row to 1e-4."""
    pytest.importorskip("ai_edge_litert")
    if not os.environ.get("STEELYARD_LITERT_PYTHON"):
        pytest.skip("STEELYARD_LITERT_PYTHON names no environment with litert-torch")
    made = compress(parent.name, "tflite", settings)
    assert (made.artifact, made.relation, made.runtime) == (
        "model.tflite", "exported", "ai-edge-litert"
    )  # fmt: skip
    content = fetched(settings, made).read_bytes()
    expected = opened(fetched(settings, parent)).answer(rows)
    found = outputs_of(Interpreted(content), rows)
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    assert made.evidence is not None and made.evidence.agreement == 1.0
    assert content[4:8] == b"TFL3"
    assert "model.tflite" in refused_at_deploy(settings, made)


def test_litert_without_its_interpreter_is_refused_before_anything_starts(
    settings: Settings, parent: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install, and which variable names it."""
    pytest.importorskip("ai_edge_litert")
    monkeypatch.delenv("STEELYARD_LITERT_PYTHON", raising=False)
    with pytest.raises(Refused, match="pip install litert-torch there"):
        compress(parent.name, "tflite", settings)
    monkeypatch.setenv("STEELYARD_LITERT_PYTHON", "/nowhere/python")
    with pytest.raises(Refused, match=r"STEELYARD_LITERT_PYTHON=/nowhere/python is no file"):
        compress(parent.name, "tflite", settings)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(Refused, match=r'ai_edge_litert is not installed.*\[edge\]"'):
        compress(parent.name, "tflite", settings)


QUICK: dict[str, Value] = {"epochs": 0, "control": False}


def test_a_converter_that_fails_leaves_no_version(
    settings: Settings, parent: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the interpreter has no litert-torch; the message has its last line."""
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("STEELYARD_LITERT_PYTHON", sys.executable)
    versions = registry(settings).versions(parent.model)
    with pytest.raises(Refused, match="ModuleNotFoundError: No module named 'litert_torch'"):
        compress(parent.name, "pruned_structured+tflite", settings, QUICK)
    assert registry(settings).versions(parent.model) == versions
