"""The rules of the kinds: what suits, what is refused, what options mean, what a step changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from steelyard.domain.errors import InvalidInput, Refused
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.export import Artifact, export
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.distilled import by_chance, by_direction
from steelyard_workflows.variants.graph import Graph
from steelyard_workflows.variants.int4_weight_only import quantize, without_gemm
from steelyard_workflows.variants.kind import Value
from steelyard_workflows.variants.narrowing import half, stack
from steelyard_workflows.variants.packing import pack, unpack
from steelyard_workflows.variants.pruned_unstructured import smallest, zero
from steelyard_workflows.variants.steps import KINDS, steps_of, typed

PERCEPTRON = Graph({"Gemm": 3, "Relu": 2}, 3_700_000, attention=False)
CONVOLUTIONS = Graph({"Conv": 4, "Gemm": 1}, 300_000, attention=False)
TRANSFORMER = Graph({"MatMul": 20, "Softmax": 2}, 400_000, attention=True)
TINY = replace(PERCEPTRON, parameters=1_554)


@pytest.mark.parametrize(
    ("kind", "found", "refused"),
    [
        ("int8_dynamic", PERCEPTRON, None),
        ("int8_dynamic", TRANSFORMER, None),
        ("int8_dynamic", CONVOLUTIONS, "0.19"),
        ("pruned_structured", CONVOLUTIONS, None),
        ("pruned_structured", TRANSFORMER, "layer_drop"),
        ("int8_static", TINY, None),
    ],
)
def test_a_kind_that_cannot_work_is_refused_before_anything_is_started(
    kind: str, found: Graph, refused: str | None
) -> None:
    """With the measured figure, or the kind that suits."""
    reason = KINDS[kind].refusal(found)
    assert reason is None if refused is None else reason is not None and refused in reason


@pytest.mark.parametrize(
    ("kind", "found", "said"),
    [
        ("int8_static", PERCEPTRON, []),
        ("int8_static", TINY, ["100,000 parameters, this model has 1,554"]),
        ("int8_static", replace(PERCEPTRON, parameters=99_999), ["99,999"]),
        ("int8_static", replace(PERCEPTRON, parameters=100_000), []),
        ("int8_static", TRANSFORMER, [".925"]),
        ("int8_dynamic", TINY, [".012 ms"]),
        ("int4_weight_only", CONVOLUTIONS, ["convolutions"]),
        ("fp16", PERCEPTRON, ["size only"]),
        ("pruned_unstructured", PERCEPTRON, ["no latency gain"]),
        ("bf16", PERCEPTRON, []),
        ("safetensors", PERCEPTRON, ["a replica takes its memory"]),
        ("pruned_structured", CONVOLUTIONS, []),
    ],
)
def test_a_kind_that_may_not_pay_says_why(kind: str, found: Graph, said: list[str]) -> None:
    """Each doubt has its reason and a measured figure; there are no others."""
    doubts = KINDS[kind].doubts(found)
    assert len(doubts) == len(said)
    assert all(text in doubt for text, doubt in zip(said, doubts, strict=True))


def test_steps_have_every_option_with_its_default() -> None:
    """What is not given is the default, so a recipe says all that decides the bytes."""
    first, second = steps_of("pruned_structured+int8_static", {"ratio": 0.25})
    assert first.options["ratio"] == 0.25 and first.options["epochs"] == 2
    clips = KINDS["int8_static"].options["reduce_range"].default  # this machine's
    assert second.options == {
        "calibration_rows": 512, "calibration_split": "train", "reduce_range": clips,
    }  # fmt: skip


def test_all_faults_of_the_options_are_told_at_once() -> None:
    """Unknown names, other types, values out of range, and names that two steps have."""
    given: dict[str, Value] = {
        "ratio": 0.99,
        "round_to": 7,
        "epoch": 1,
        "control": 1,
        "learning_rate": "fast",
    }
    with pytest.raises(InvalidInput) as caught:
        steps_of("pruned_structured", given)
    assert [fault.where for fault in caught.value.faults] == list(given)
    for value in (float("nan"), True, "0.5"):
        with pytest.raises(InvalidInput, match="not usable"):
            steps_of("pruned_structured", {"ratio": value})


def test_an_option_of_one_of_two_steps_is_named_with_its_step() -> None:
    """Each step learns for its own epochs."""
    first, second = steps_of(
        "layer_drop+distilled", {"layer_drop.epochs": 0, "distilled.epochs": 7}
    )
    assert (first.options["epochs"], second.options["epochs"]) == (0, 7)


def test_typed_options_get_their_type() -> None:
    """A command line has text only; what is no number of the kind stays text and is refused."""
    lines = ["ratio=0.25", "epochs=3", "control=no", "seed=x"]
    assert typed("pruned_structured", lines) == {
        "ratio": 0.25, "epochs": 3, "control": False, "seed": "x"
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="KEY=VALUE"):
        typed("fp16", ["ratio"])


def test_int4_sees_linear_layers_only_after_they_are_rewritten(
    exported: Artifact, digits: Dataset, tmp_path: Path
) -> None:
    """Gemm becomes MatMul and Add with the same numbers, and then INT4."""
    plain = without_gemm(onnx.load(exported.path))
    onnx.save_model(plain, tmp_path / "plain.onnx")
    counts = graph.read(tmp_path / "plain.onnx").operations
    assert not counts.get("Gemm") and (counts["MatMul"], counts["Add"]) == (2, 2)
    rows = digits.test.inputs[:20]
    before, after = (opened(p).answer(rows) for p in (exported.path, tmp_path / "plain.onnx"))
    assert np.abs(before - after).max() <= 1e-4
    quantize(exported.path, tmp_path / "int4.onnx", 32, embeddings=False)
    assert graph.read(tmp_path / "int4.onnx").operations["MatMulNBits"] == 2


def test_int4_that_changes_no_operation_is_refused(tmp_path: Path) -> None:
    """The quantizer says nothing; a model of convolutions alone would be registered as INT4."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made = export(network, np.zeros((4, 1, 8, 8), np.float32), tmp_path)
    with pytest.raises(Refused, match="changed no operation"):
        quantize(made.path, tmp_path / "int4.onnx", 32, embeddings=False)


def test_weights_that_are_no_numbers_are_refused(exported: Artifact, tmp_path: Path) -> None:
    """NaN and infinity, by the weight's name."""
    model = onnx.load(exported.path)
    for bad in (np.nan, np.inf):
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
        values = numpy_helper.to_array(tensor).copy()
        values[0, 0] = bad
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save_model(model, tmp_path / "bad.onnx")
        with pytest.raises(Refused, match=f"{tensor.name} holds NaN or infinity"):
            graph.read(tmp_path / "bad.onnx")


def test_more_than_one_file_can_hold_is_refused() -> None:
    """ONNX in one file ends at 2 GiB; one byte more is too much."""
    graph.check_size(2**31)
    with pytest.raises(Refused, match="2,147,483,649 bytes"):
        graph.check_size(2**31 + 1)


def test_a_network_that_cannot_be_exported_names_the_operation(tmp_path: Path) -> None:
    """The exporter's own message is a page long and hides it."""

    class Eigenvalues(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = torch.linalg.eigvals(x).real
            return found

    with pytest.raises(Refused, match=r"aten\.linalg_eig has no ONNX form"):
        export(Eigenvalues(), np.zeros((4, 3, 3), np.float32), tmp_path)


def test_an_exported_file_names_no_place_of_this_machine(exported: Artifact) -> None:
    """The same network gives the same bytes wherever its code stands."""
    assert str(Path(__file__).parents[3]).encode() not in exported.path.read_bytes()


def test_the_smallest_weights_go_and_stay_gone(network: nn.Module) -> None:
    """Nine in ten over all layers, biases left alone."""
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    masks = smallest(network, 0.9)
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert kept / sum(mask.numel() for mask in masks.values()) == pytest.approx(0.1, abs=1e-4)
    zero(network, masks)
    changed = network.state_dict()
    packed = pack(changed)
    size = sum(t.numel() * t.element_size() for t in packed.values())
    assert size < 0.15 * sum(t.numel() * t.element_size() for t in changed.values())
    assert all(torch.equal(tensor, changed[name]) for name, tensor in unpack(packed).items())
    network.load_state_dict(state)


def test_what_is_taught_is_nothing_when_both_answer_alike() -> None:
    """0 for the teacher's own answers, more for others, whatever the shape of the labels."""
    teacher, other = torch.randn(3, 5, 7), torch.randn(3, 5, 7)
    for loss in (by_chance, by_direction):
        assert loss(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-5)
        assert loss(other, teacher, 2.0).item() > 0.01


def test_only_a_list_of_equal_layers_can_be_shortened() -> None:
    """Layers of different shapes depend on each other."""
    equal = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
    network = nn.ModuleDict({"layers": equal, "mixed": nn.ModuleList([nn.Linear(4, 8)] * 1)})
    assert stack(network) == ("layers", equal) and half(network) == 2
    growing = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 4)])
    assert stack(nn.ModuleDict({"layers": growing})) == ("", None)
