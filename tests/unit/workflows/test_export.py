import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.export import OPSET, Artifact, _check_numbers, export
from steelyard_workflows.recipes.digits_cnn import DigitsCnn


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_the_file_computes_what_the_network_computes(
    network: nn.Module, exported: Artifact, batch: int
) -> None:
    """Any batch size, to 1e-4."""
    rows = np.random.default_rng(batch).random((batch, 1, 8, 8), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(rows)).numpy()
    assert np.abs(opened(exported.path).answer(rows) - expected).max() <= 1e-4


def test_the_artifact_says_what_it_is(exported: Artifact) -> None:
    """Digest and size of the very file; Open Inference Protocol types; a variable batch."""
    content = exported.path.read_bytes()
    assert exported.sha256 == hashlib.sha256(content).hexdigest()
    assert exported.size_bytes == len(content)
    assert exported.signature == Signature(
        (TensorSpec("input", "FP32", (-1, 1, 8, 8)),), (TensorSpec("logits", "FP32", (-1, 10)),)
    )


def test_the_artifact_is_one_file_with_weights_and_no_data(exported: Artifact) -> None:
    """One file, no example rows inside: hardly larger than the parameters."""
    assert [p.name for p in exported.path.parent.iterdir()] == ["model.onnx"]
    parameters = 4 * sum(p.numel() for p in DigitsCnn().parameters())
    assert exported.size_bytes <= 1.1 * parameters
    model = onnx.load(exported.path)
    assert {o.domain: o.version for o in model.opset_import}[""] == OPSET


def test_the_same_network_gives_the_same_file(
    network: nn.Module, exported: Artifact, digits: Dataset, tmp_path: Path
) -> None:
    """A digest is only useful when it is repeatable."""
    assert export(network, digits.test.inputs, tmp_path).sha256 == exported.sha256


class Halves(nn.Module):
    """Two answers, whatever number of rows is asked."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows are mixed."""
        return x.reshape(2, -1)


class Chosen(nn.Module):
    """As many answers as there are rows that please it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows are left out by what stands in them."""
        return x[x[:, 0] > 0]


class Branching(nn.Module):
    """Goes one way or another by what stands in the rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """No graph has that."""
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Halves(), "gives 2 answers for 1 rows"),
        (Chosen(), "gives 0 answers for 1 rows"),
        (Branching(), "cannot be exported: .*data-dependent"),
    ],
)
def test_shapes_that_depend_on_anything_but_the_number_of_rows_are_refused(
    network: nn.Module, why: str, tmp_path: Path
) -> None:
    """The batch is the one variable dimension, and a row has one answer."""
    rows = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    with pytest.raises(Refused, match=why):
        export(network, rows, tmp_path)


def test_weights_that_are_no_numbers_are_not_exported(tmp_path: Path) -> None:
    """The message names the weight, where a difference of NaN would not."""
    network = nn.Linear(4, 2)
    with torch.no_grad():
        network.bias[1] = float("inf")
    with pytest.raises(Refused, match="Weight bias holds NaN or infinity"):
        export(network, np.zeros((2, 4), np.float32), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_network_is_refused(exported: Artifact, digits: Dataset) -> None:
    """The check of numbers is what stands between a wrong export and the registry."""
    with pytest.raises(Refused, match="differs from the trained network"):
        _check_numbers(exported.path, DigitsCnn().eval(), digits.test.inputs)
