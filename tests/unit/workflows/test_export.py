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
from steelyard_workflows.evaluation.runtime import logits_of, session
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
    assert np.abs(logits_of(session(exported.path), rows) - expected).max() <= 1e-4


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


def test_a_file_of_another_network_is_refused(exported: Artifact, digits: Dataset) -> None:
    """The check of numbers is what stands between a wrong export and the registry."""
    with pytest.raises(Refused, match="differs from the trained network"):
        _check_numbers(exported.path, DigitsCnn().eval(), digits.test.inputs)
