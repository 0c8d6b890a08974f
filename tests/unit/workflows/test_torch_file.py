"""Networks that come with Steelyard, written as weights for torch and opened as a replica does."""

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steelyard.bootstrap.architectures import ARCHITECTURES
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import TORCH, Signature, TensorSpec
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.recipes.byte_gpt import ByteGpt
from steelyard_workflows.variants.torch_file import write

ROWS = {"byte_gpt": ("INT64", (64,)), "text_transformer": ("INT64", (32,)),
        "digits_cnn": ("FP32", (1, 8, 8)), "digits_resnet": ("FP32", (1, 8, 8)),
        "fashion_mlp": ("FP32", (1, 28, 28)), "fashion_resnet": ("FP32", (1, 28, 28))}  # fmt: skip


def signature(datatype: str, row: tuple[int, ...]) -> Signature:
    """One input and one output, as every recipe has them."""
    return Signature((TensorSpec("input", datatype, (-1, *row)),),
                     (TensorSpec("logits", "FP32", (-1, -1)),))  # fmt: skip


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_registered_network_answers_from_its_file_as_it_did(
    name: str, tmp_path: Path
) -> None:
    """Built anew from its name and hyper-parameters; every recipe's that needs no other wheel."""
    (point,) = entry_points(group=ARCHITECTURES, name=name)
    torch.manual_seed(1)
    network = point.load()().eval()
    datatype, row = ROWS[name]
    rows = np.random.default_rng(0).integers(1, 60, (3, *row))
    given = rows.astype(np.int64 if datatype == "INT64" else np.float32)
    file = opened(write(network, signature(datatype, row), tmp_path, "FP32"), TORCH)
    with torch.inference_mode():
        expected = network(torch.from_numpy(given)).numpy()
    # Torch may take another kernel with fewer threads.
    np.testing.assert_allclose(file.answer(given), expected, rtol=1e-5, atol=1e-5)


def test_what_is_registered_is_what_is_tested() -> None:
    """A name that is added to the package's entry points gets its row above."""
    assert {one.name for one in entry_points(group=ARCHITECTURES)} >= set(ROWS)


def test_a_network_of_fewer_layers_says_so(tmp_path: Path) -> None:
    """Hyper-parameters are of the network as it is: one without a layer is built without it."""
    network = ByteGpt(width=32, heads=2, layers=3)
    network.layers = nn.ModuleList([network.layers[0], network.layers[2]])
    path = write(network, signature("INT64", (64,)), tmp_path, "FP32")
    rows = np.zeros((1, 64), np.int64)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(opened(path, TORCH).answer(rows), expected, rtol=1e-5, atol=1e-5)


class Mine(nn.Linear):
    """Nobody registered it."""


def test_a_network_that_is_not_registered_is_not_written(tmp_path: Path) -> None:
    """No replica could build it; the hint says how one could."""
    with pytest.raises(Refused, match="Mine is no registered architecture") as refused:
        write(Mine(2, 2), signature("FP32", (2,)), tmp_path, "FP32")
    assert "steelyard.architectures" in str(refused.value.hint)
    assert not list(tmp_path.iterdir())
