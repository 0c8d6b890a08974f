"""The optimisers that a workflow can name."""

import pytest
import torch

from steelyard_workflows.training.optimizers import Lion, make
from steelyard_workflows.workflow import Optimizer, Train


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lion"])
def test_each_finds_the_bottom_of_a_bowl(name: Optimizer) -> None:
    """From (3, -2) to the origin."""
    weights = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    train = Train(epochs=1, batch_size=1, optimizer=name, learning_rate=0.05, momentum=0.5)
    optimizer = make(train, [weights, frozen])
    for _ in range(200):
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
    assert weights.abs().max() < 0.1
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1


def test_lion_steps_as_its_paper_says() -> None:
    """Two steps by hand: sign(b1 m + (1 - b1) g), then m = b2 m + (1 - b2) g, decay decoupled."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = Lion([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.tensor([4.0])
    optimizer.step()
    assert weight.item() == pytest.approx(1.0 * (1 - 0.05) - 0.1)
    assert optimizer.state[weight]["momentum"].item() == pytest.approx(0.04)
    weight.grad = torch.tensor([-0.3])
    optimizer.step()
    # 0.9 * 0.04 - 0.1 * 0.3 = 0.006 > 0: the momentum still wins
    assert weight.item() == pytest.approx(0.85 * 0.95 - 0.1)
    assert optimizer.state[weight]["momentum"].item() == pytest.approx(0.99 * 0.04 - 0.003)


def test_lion_goes_on_from_its_saved_state() -> None:
    """What a resumed run relies on."""
    torch.manual_seed(0)
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    one, other = Lion([first], lr=0.1), Lion([second], lr=0.1)
    first.grad = torch.randn(3)
    one.step()
    other.load_state_dict(one.state_dict())
    second.data.copy_(first.data)
    first.grad = second.grad = torch.randn(3) * 0.01
    one.step()
    other.step()
    assert torch.equal(first, second)
