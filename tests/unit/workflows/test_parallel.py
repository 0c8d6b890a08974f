"""A network on a worker's device, alone."""

import torch
from torch import nn

from steelyard_workflows.training import parallel
from steelyard_workflows.training.optimizers import make
from steelyard_workflows.training.parallel import share
from steelyard_workflows.workflow import Train

CPU = torch.device("cpu")


def test_one_worker_needs_no_exchange_and_saves_its_network_under_its_own_names() -> None:
    """What it saved, another network takes."""
    torch.manual_seed(0)
    one, other = (share(nn.Linear(3, 2), "ddp", CPU, 1, compiled=False) for _ in range(2))
    train = Train(epochs=1, batch_size=1, learning_rate=0.1)
    first, second = (make(train, shared.network.parameters()) for shared in (one, other))
    with one.exchanging(False):
        one.forward(torch.ones(1, 3)).sum().backward()
    first.step()
    state = one.state(first)
    assert set(state["network"]) == {"weight", "bias"}
    other.load(second, state)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.state_dict()["state"][0]["step"] == 1


def test_a_machine_without_a_compiler_is_told_from_other_faults() -> None:
    """The run is refused with a hint; a fault of the user's code is tried again like before."""
    from torch._dynamo.exc import BackendCompilerFailed

    assert issubclass(BackendCompilerFailed, parallel.compile_error())
    assert not issubclass(ConnectionError, parallel.compile_error())
