import pytest
import torch
from torch import nn

from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows import data, models
from steelyard_workflows.flops import BATCH, METHOD, count, profile


def mlp() -> nn.Module:
    """784-128-10."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def test_a_perceptron_counts_what_pencil_and_paper_say() -> None:
    """Batch 32: forward 6,504,448; the step leaves out the gradient of the input."""
    found = profile(mlp(), (784,), 10)
    assert found == FlopsProfile(6_504_448 // BATCH, 13_090_816 // BATCH, METHOD, 1.0)
    assert found.train_step is not None
    assert found.train_step * 10 * 60_000 == 245_452_800_000


def test_a_convolution_counts_two_per_multiply_add() -> None:
    """Both convolutions and both linear layers of the digits network, by hand."""
    by_hand = 2 * (64 * 32 * 9 + 64 * 64 * 32 * 9 + 1024 * 128 + 128 * 10)
    found = profile(models.build("digits_cnn", 0), data.ITEM_SHAPE, data.CLASSES)
    assert (found.forward, found.coverage) == (by_hand, 1.0)


def test_operations_that_torch_counts_as_zero_are_seen() -> None:
    """Attention on a CPU and an LSTM, both silently 0 under torch's defaults."""
    q = torch.zeros(1, 12, 64, 64)
    attention = count(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert (attention.flops, attention.coverage) == (12_582_912, 1.0)
    recurrent, steps = nn.LSTM(64, 128), torch.zeros(10, 4, 64)
    assert count(lambda: recurrent(steps)).flops == 7_864_320


class MatrixTimesVector(nn.Module):
    """Uses an operation that torch has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Adds a matrix-vector product to every logit."""
        logits: torch.Tensor = self.linear(rows)
        return logits + (rows @ self.linear.weight[0]).unsqueeze(1)


def test_an_operation_without_a_formula_makes_the_count_unknown() -> None:
    """Unknown is None, not a number that is too small."""
    found = profile(MatrixTimesVector(), (4,), 4)
    assert found.forward is None and found.train_step is None
    assert 0 < found.coverage < 1


def test_counting_leaves_the_network_and_the_settings_alone() -> None:
    """No gradients stay behind, and the fast path is as before."""
    network = mlp()
    before = torch.backends.mha.get_fastpath_enabled()
    profile(network, (784,), 10)
    assert all(p.grad is None for p in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_nothing_to_compute_is_unknown_rather_than_free() -> None:
    """A count of 0 would be a claim."""
    assert count(lambda: torch.zeros(3)).coverage == pytest.approx(0.0)
