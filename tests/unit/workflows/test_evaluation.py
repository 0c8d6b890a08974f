import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from steelyard.domain.energy import LoadModel
from steelyard.domain.evidence import Evidence, document, read
from steelyard.domain.gates import DEFAULT_POLICY, GatePolicy, judge, passed
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.evaluation.evidence import Measured, measure, subject
from steelyard_workflows.evaluation.footprint import measure_footprint
from steelyard_workflows.evaluation.quality import answer, diverge
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.evaluation.weights import Weights, count_weights
from steelyard_workflows.export import Artifact

POWER = LoadModel(Fraction(1), Fraction(4), ("a", "b"))


class Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """One feed of calibration rows."""

    def __init__(self, name: str, rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self._feeds = [{name: rows}]

    def get_next(self) -> object:
        """The feed, then None."""
        return self._feeds.pop() if self._feeds else None


@pytest.fixture(scope="module")
def int8(
    exported: Artifact, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:  # fmt: skip
    """The exported network with INT8 weights and activations."""
    path: Path = tmp_path_factory.mktemp("int8") / "model.onnx"
    name = onnx.load(exported.path).graph.input[0].name
    quantize_static(
        str(exported.path), str(path), Rows(name, digits.train.inputs[:256]), per_channel=True,
        quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def measured(exported: Artifact, int8: Path, digits: Dataset) -> Measured:
    """The INT8 form beside its parent."""
    return measure(subject(int8), digits.test, subject(exported.path), POWER)


def chain(path: Path, weights: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> Path:
    """Writes a file that multiplies its input with one matrix after the other."""
    initializers = [numpy_helper.from_array(w, f"w{n}") for n, w in enumerate(weights)]
    nodes = [
        helper.make_node("MatMul", [f"h{n}", f"w{n}"], [f"h{n + 1}"], name=f"m{n}")
        for n in range(len(weights))
    ]
    inputs = [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["n", len(weights[0])])]
    last = [
        helper.make_tensor_value_info(f"h{len(weights)}", TensorProto.FLOAT,
                                      ["n", weights[-1].shape[1]])
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "chain", inputs, last, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, path)
    return path


def test_every_figure_is_measured_for_both_sides(measured: Measured) -> None:
    """Speed at batch 1 and 32, CPU time, memory, load time, weights, energy with its tier."""
    evidence = measured.evidence
    for side in (evidence.own, evidence.parent):
        assert side is not None and [s.batch for s in side.speeds] == [1, 32]
        assert all(0 < s.ms_p50 <= s.ms_p95 <= s.ms_p99 and s.cpu_ms_per_row > 0
                   for s in side.speeds)  # fmt: skip
        assert side.load_s and side.memory_bytes and side.calibration_error is not None
        assert side.energy_method == "modelled_load"
        assert side.energy_mj == pytest.approx(4 * side.speeds[0].cpu_ms_per_row)
    assert evidence.kl_mean is not None and 0 <= evidence.kl_mean < 0.05
    assert evidence.cosine_min is not None and evidence.cosine_mean is not None
    assert 0.9 < evidence.cosine_min <= evidence.cosine_mean <= 1 + 1e-9
    assert len(evidence.slices) == 10 and sum(s.labels for s in evidence.slices) == 360
    assert read(document(evidence)) == evidence


def test_counts_agree_with_each_other(measured: Measured) -> None:
    """Discordant labels explain the difference of the accuracies, and so do the slices."""
    found = measured.evidence
    assert found.labels == 360 and found.parent_accuracy is not None
    lost, won = found.parent_only_right, found.own_only_right
    assert lost is not None and won is not None and found.agreement is not None
    assert (won - lost) / 360 == pytest.approx(found.accuracy - found.parent_accuracy)
    assert lost + won <= round(360 * (1 - found.agreement))
    right = sum(s.accuracy * s.labels for s in found.slices)
    assert right / 360 == pytest.approx(found.accuracy)
    assert found.accuracy_low is not None and found.accuracy_high is not None
    assert found.accuracy_low < found.accuracy < found.accuracy_high


def test_the_measured_variant_passes_the_default_gates(measured: Measured) -> None:
    """What the platform asks of a model by default can be proved on 360 rows."""
    assert passed(judge(DEFAULT_POLICY, measured.evidence, measured.evidence.hardware))


def test_a_version_with_shuffled_labels_passes_no_gate(
    exported: Artifact, int8: Path, digits: Dataset
) -> None:
    """Its answers have nothing to do with the labels: not told apart from guessing."""
    labels = np.random.default_rng(1).permutation(digits.test.labels)
    shuffled = replace(digits.test, labels=labels)
    for evidence in (
        measure(subject(exported.path), shuffled).evidence,
        measure(subject(int8), shuffled, subject(exported.path)).evidence,
    ):
        assert evidence.chance == pytest.approx(0.1, abs=0.01)
        verdicts = {f.gate: f.verdict for f in judge(GatePolicy(), evidence)}
        assert verdicts["chance"] in ("fail", "unknown")


def test_a_variant_that_forgot_its_classes_fails_against_its_parent(
    exported: Artifact, digits: Dataset, tmp_path: Path
) -> None:
    """A file whose last layer's outputs are exchanged: quality fails, agreement too."""
    model = onnx.load(exported.path)
    last = next(n for n in reversed(model.graph.node) if n.op_type == "Gemm")
    for tensor in model.graph.initializer:
        if tensor.name in last.input[1:]:
            turned = np.roll(numpy_helper.to_array(tensor), 1, 0)
            tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
    forgot = tmp_path / "model.onnx"
    onnx.save_model(model, forgot)
    evidence = measure(subject(forgot), digits.test, subject(exported.path)).evidence
    verdicts = {f.gate: f.verdict for f in judge(DEFAULT_POLICY, evidence)}
    assert verdicts["quality"] == "fail" and verdicts["chance"] == "fail"


def test_a_version_without_a_parent_or_power_has_no_such_figures(
    exported: Artifact, digits: Dataset
) -> None:
    """What was not measured is None."""
    found: Evidence = measure(subject(exported.path), digits.test).evidence
    assert found.parent is None and found.kl_mean is None and found.parent_only_right is None
    assert found.own is not None and found.own.energy_mj is None
    assert all(one.parent_accuracy is None for one in found.slices)


def test_fewer_rows_than_a_batch_are_repeated(exported: Artifact, digits: Dataset) -> None:
    """Batch 32 can be timed with five rows."""
    few = Split(digits.test.inputs[:5], digits.test.labels[:5], digits.test.rows[:5])
    found = measure(subject(exported.path), few).evidence
    assert found.own is not None and found.own.speeds[1].batch == 32


def test_several_labels_a_row_are_all_judged(tmp_path: Path) -> None:
    """A model that labels every position of a sequence: the interval is over labels."""
    path = chain(tmp_path / "m.onnx", [np.eye(4, dtype=np.float32)])
    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        middle = dims.add()
        middle.CopyFrom(dims[1])
        dims[1].dim_value = 3
    onnx.save_model(model, path)
    inputs = np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32)
    labels = inputs.argmax(-1).astype(np.int64)
    labels[0, 0] = (labels[0, 0] + 1) % 4
    found = measure(subject(path), Split(inputs, labels, np.arange(50))).evidence
    assert (found.examples, found.labels) == (50, 150)
    assert found.accuracy == pytest.approx(149 / 150)


def test_outputs_that_are_the_same_do_not_diverge(exported: Artifact, digits: Dataset) -> None:
    """KL 0 and cosine 1 against itself."""
    runtime = opened(exported.path)
    apart = diverge(runtime, runtime, digits.test.inputs)
    assert apart.kl_mean == 0 and apart.cosine_min == pytest.approx(1)
    assert answer(runtime, digits.test.inputs[:1]).classes.shape == (1,)


def test_weights_are_counted_in_every_form(
    tmp_path: Path, exported: Artifact, int8: Path, measured: Measured
) -> None:
    """Floating, static INT8, dynamic INT8 and INT4 files have the weights of their parent."""
    parent = count_weights(exported.path)
    assert measured.evidence.own is not None
    assert measured.evidence.own.parameters == parent.parameters == count_weights(int8).parameters
    draw = np.random.default_rng(2)
    first, second = (draw.normal(size=s).astype(np.float32) for s in ((64, 32), (32, 64)))
    first[:16] = 0
    plain = chain(tmp_path / "plain.onnx", [first, second])
    assert count_weights(plain) == Weights(4096, 4096 - 512)
    dynamic, packed = tmp_path / "dynamic.onnx", tmp_path / "packed.onnx"
    quantize_dynamic(str(plain), str(dynamic), weight_type=QuantType.QInt8, per_channel=True)
    quantizer = MatMulNBitsQuantizer(onnx.load(plain), bits=4, block_size=32, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(packed))
    for path in (dynamic, packed):
        found = count_weights(path)
        assert found.parameters == 4096
        assert found.nonzero is not None and found.nonzero <= 4096 - 512


def test_what_cannot_be_loaded_has_no_footprint(tmp_path: Path) -> None:
    """Unknown, not 0, and not the end of the measurement."""
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    found = measure_footprint(broken)
    assert found.load_s is None and found.memory_bytes is None


def test_the_footprint_of_a_larger_model_is_larger(tmp_path: Path) -> None:
    """Sixteen million weights take at least their bytes."""
    matrix = np.random.default_rng(3).normal(size=(4096, 4096)).astype(np.float32)
    large = measure_footprint(chain(tmp_path / "large.onnx", [matrix]))
    assert large.memory_bytes is not None and large.memory_bytes >= matrix.nbytes


def test_a_footprint_s_process_loads_nothing_that_is_not_needed() -> None:
    """No torch, no MLflow: they would be in the figure."""
    code = (
        "import sys, steelyard_workflows.evaluation.footprint;"
        "print([m for m in ('torch', 'mlflow', 'ray', 'sqlalchemy') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
