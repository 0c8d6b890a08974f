"""What the converter of the other environment is handed computes what the ONNX file does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from steelyard.domain.errors import Refused
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.export import Artifact, export
from steelyard_workflows.recipes.transformer import Layer
from steelyard_workflows.variants import litert_convert
from steelyard_workflows.variants.operations import hand_over


class Reader(nn.Module):
    """Words through a look-up table and attention, as our encoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.layer = Layer(32, 4, causal=False)
        self.classify = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of each row."""
        found: torch.Tensor = self.classify(self.layer(self.embed(x)).mean(1))
        return found


def rebuilt(path: Path, rows: NDArray[Any], into: Path) -> NDArray[Any]:
    """What the rebuilt network answers, one row at a time."""
    hand_over(path, rows, into)
    network, _ = litert_convert.read(into)
    with torch.no_grad():
        return np.concatenate([network(torch.from_numpy(row[None])).numpy() for row in rows])


def test_convolutions_come_out_the_same(
    exported: Artifact, digits: Dataset, tmp_path: Path
) -> None:  # fmt: skip
    """Ten rows of real digits, to 1e-5."""
    rows = digits.test.inputs[:10]
    expected = opened(exported.path).answer(rows)
    assert np.abs(rebuilt(exported.path, rows, tmp_path) - expected).max() <= 1e-5


def test_attention_comes_out_the_same(tmp_path: Path) -> None:
    """With shapes that the file computes for any batch, and that are constants for one row."""
    torch.manual_seed(0)
    rows = np.random.default_rng(0).integers(0, 64, (20, 8))
    made = export(Reader(), rows, tmp_path)
    assert np.abs(rebuilt(made.path, rows, tmp_path) - opened(made.path).answer(rows)).max() <= 1e-5


def test_what_is_handed_over_is_json_and_safetensors(
    exported: Artifact, digits: Dataset, tmp_path: Path
) -> None:
    """Nothing is unpickled on either side, and no row of the data is in it."""
    hand_over(exported.path, digits.test.inputs, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.json", "weights.safetensors"]
    graph = json.loads((tmp_path / "graph.json").read_text())
    assert graph["shape"] == [1, 1, 8, 8] and len(graph["nodes"]) >= 8
    header = int.from_bytes((tmp_path / "weights.safetensors").read_bytes()[:8], "little")
    assert header < 4096


def _file(path: Path, operation: str, **attributes: Any) -> Path:
    domain = attributes.pop("domain", "")
    shape: list[str | int | None] = ["n", 4]
    graph = helper.make_graph(
        [helper.make_node(operation, ["input"], ["logits"], domain=domain, **attributes)],
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_an_operation_without_a_counterpart_is_named(tmp_path: Path) -> None:
    """Before the converter is started on it, and also one that is not ONNX's own."""
    rows = np.zeros((2, 4), np.float32)
    hand_over(_file(tmp_path / "own.onnx", "Softsign"), rows, tmp_path)
    with pytest.raises(litert_convert.Unknown, match="Softsign"):
        litert_convert.read(tmp_path)
    with pytest.raises(Refused, match="QuickGelu cannot be handed over"):
        hand_over(_file(tmp_path / "a.onnx", "QuickGelu", domain="com.microsoft"), rows, tmp_path)
