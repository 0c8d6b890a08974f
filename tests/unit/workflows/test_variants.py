from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from steelyard.domain.errors import InvalidInput, Refused
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.evidence import measure, subject
from steelyard_workflows.export import Artifact, artifact
from steelyard_workflows.variants.int8_static import quantize, quantized_operations
from steelyard_workflows.variants.steps import KINDS, kind_named


@pytest.fixture(scope="module")
def int8(
    exported: Artifact, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:  # fmt: skip
    """The INT8 form of the exported network."""
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantize(exported.path, digits.train.inputs[:256], path)
    return artifact(path)


def test_int8_is_int8_and_smaller(exported: Artifact, int8: Artifact) -> None:
    """Every compute operation reads INT8 weights, and the file is below 30 % of its parent."""
    assert quantized_operations(exported.path) == (0, 4)
    assert quantized_operations(int8.path) == (4, 4)
    assert int8.size_bytes <= 0.3 * exported.size_bytes
    weights = onnx.load(int8.path).graph.initializer
    assert sum(w.data_type == TensorProto.INT8 and len(w.dims) > 1 for w in weights) == 4
    assert int8.signature == exported.signature


def test_int8_is_measured_beside_its_parent(
    exported: Artifact, int8: Artifact, digits: Dataset
) -> None:
    """Agreement, both accuracies and both latencies come from one run on named hardware."""
    found = measure(subject(int8.path), digits.test, subject(exported.path)).evidence
    assert found.agreement is not None and found.agreement >= 0.98
    assert found.parent_accuracy is not None
    assert abs(found.accuracy - found.parent_accuracy) <= 0.02
    assert found.parent_latency_ms_p50 is not None and found.latency_ms_p50 > 0
    assert (found.size_bytes, found.parent_size_bytes) == (int8.size_bytes, exported.size_bytes)
    assert found.hardware["threads"] == "1" and "onnxruntime" in found.hardware["runtime"]


def test_a_first_version_has_no_parent_figures(exported: Artifact, digits: Dataset) -> None:
    """What was not measured is None."""
    found = measure(subject(exported.path), digits.test).evidence
    assert found.accuracy >= 0.9 and found.examples == 360
    assert found.agreement is None and found.parent_latency_ms_p50 is None
    assert found.data_sha256 == digits.test.sha256


def test_a_model_without_compute_is_refused(tmp_path: Path, digits: Dataset) -> None:
    """Nothing to quantize: the quantizer says nothing, we do."""
    shape: list[str | int | None] = ["n", 1, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "one"], ["logits"])],
        "plain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, tmp_path / "plain.onnx")
    with pytest.raises(Refused, match="0 of 0 compute operations"):
        quantize(tmp_path / "plain.onnx", digits.train.inputs[:32], tmp_path / "model.onnx")


def test_an_unknown_kind_is_answered_with_those_that_exist() -> None:
    """A typing mistake lists the table."""
    with pytest.raises(InvalidInput) as caught:
        kind_named("int8")
    assert all(name in str(caught.value) for name in KINDS)
