"""One optimiser step, on one worker."""

import numpy as np
import pytest
import torch
from torch import nn

from steelyard_workflows.data import Split
from steelyard_workflows.recipe import cross_entropy
from steelyard_workflows.training.ending import Ended
from steelyard_workflows.training.optimizers import make
from steelyard_workflows.training.parallel import share
from steelyard_workflows.training.precision import autocast, require, unsupported
from steelyard_workflows.training.stepping import Rows, Stepper
from steelyard_workflows.training.validation import validate
from steelyard_workflows.workflow import Train

CPU = torch.device("cpu")


def split(rows: int = 12) -> Split:
    """Rows of four numbers in three classes."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(rows, 4)).astype(np.float32)
    return Split(inputs, draw.integers(0, 3, rows), np.arange(rows))


def stepper(source: Split, **train: object) -> Stepper:
    """A linear network under plain SGD."""
    torch.manual_seed(0)
    rule = Train.model_validate(
        {"epochs": 1, "batch_size": 4, "learning_rate": 0.5, "optimizer": "sgd", **train}
    )
    shared = share(nn.Linear(4, 3), "ddp", CPU, 1, compiled=False)
    optimizer = make(rule, shared.network.parameters())
    return Stepper(shared, optimizer, cross_entropy, Rows(source, CPU), rule, 1, CPU)


def weights(of: Stepper) -> torch.Tensor:
    """The network's only matrix."""
    matrix = of.shared.network.weight
    assert isinstance(matrix, torch.Tensor)
    return matrix.detach().clone()


def test_accumulated_batches_learn_as_one_batch_does() -> None:
    """Also when the last is smaller: every row weighs the same."""
    rows = torch.arange(10)
    whole, parts = stepper(split()), stepper(split())
    one = whole.step([rows], 0.5, False)
    many = parts.step(rows.split(4), 0.5, False)
    assert many.loss == pytest.approx(one.loss)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)


def test_the_rate_is_the_one_of_the_step() -> None:
    """Nothing is learned at a rate of 0."""
    some = stepper(split())
    before = weights(some)
    some.step([torch.arange(4)], 0.0, False)
    assert torch.equal(before, weights(some))


def test_a_clipped_step_is_no_longer_than_the_norm() -> None:
    """SGD moves by rate × gradient."""
    some = stepper(split(), clip_norm=0.01)
    before = weights(some)
    some.step([torch.arange(4)], 1.0, False)
    assert 0 < (weights(some) - before).norm() <= 0.01 + 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_learned_from_a_loss_that_is_no_number(value: float) -> None:
    """The weights stay, so that the last checkpoint is a good one."""
    source = split()
    source.inputs[2, 1] = value
    some = stepper(source)
    before = weights(some)
    found = some.step([torch.arange(2), torch.arange(2, 4)], 0.5, False)
    assert not found.finite
    assert torch.equal(before, weights(some))


def test_one_vote_is_enough_to_stop() -> None:
    """The step is taken, and the verdict is to stop after it."""
    some = stepper(split())
    before = weights(some)
    found = some.step([torch.arange(4)], 0.5, True)
    assert found.stop and found.finite and not torch.equal(before, weights(some))


def test_validation_judges_every_row_once() -> None:
    """In batches, the same as in one."""
    some, source = stepper(split()), split(11)
    network, rows = some.shared.network, Rows(source, CPU)
    found, accuracy, judged = validate(network, cross_entropy, rows, 4, 0, 1, "fp32", CPU)
    with torch.no_grad():
        logits, labels = network(torch.from_numpy(source.inputs)), torch.from_numpy(source.labels)
        loss = cross_entropy(logits, labels).item()
    right = float((logits.argmax(1) == labels).double().mean())
    assert found == pytest.approx(loss) and accuracy == pytest.approx(right)
    assert judged == 11 and network.training


def test_bf16_computes_in_bf16_and_what_cannot_is_told() -> None:
    """fp32 asks nothing of a machine."""
    with autocast("bf16", CPU):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16
    assert unsupported("fp32", CPU) is None
    why = unsupported("bf16", CPU)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert why is None
    else:
        assert why is not None and "use fp32" in why


def test_a_worker_that_cannot_compute_in_bf16_ends_the_run() -> None:
    """With the reason; fp32 is never refused."""
    require("fp32", CPU, 1)
    if unsupported("bf16", CPU) is None:
        require("bf16", CPU, 1)
        return
    with pytest.raises(Ended, match="does not compute in bf16"):
        require("bf16", CPU, 1)
