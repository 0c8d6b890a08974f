"""The optimisers that a workflow can name."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from steelyard_workflows.workflow import Train


def make(train: Train, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that a workflow names, for the parameters that are to be learned."""
    own = [parameter for parameter in parameters if parameter.requires_grad]
    rate, decay = train.learning_rate, train.weight_decay
    if train.optimizer == "adamw":
        return torch.optim.AdamW(own, lr=rate, weight_decay=decay)
    if train.optimizer == "sgd":
        return torch.optim.SGD(own, lr=rate, momentum=train.momentum, weight_decay=decay)
    if train.optimizer == "lion":
        return Lion(own, lr=rate, weight_decay=decay)
    return torch.optim.Adam(own, lr=rate, weight_decay=decay)


class Lion(torch.optim.Optimizer):
    """Steps of equal size in the sign of an interpolated momentum; one state per weight.

    Algorithm 2 of Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023),
    https://arxiv.org/abs/2302.06675. Weight decay is decoupled. Its authors advise a learning
    rate three to ten times smaller than AdamW's.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` as in torch: computes the loss anew, its result is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: torch.nn.Parameter, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["momentum"]
        now, later = group["betas"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        direction = (momentum * now + gradient * (1 - now)).sign()
        parameter.add_(direction, alpha=-group["lr"])
        momentum.mul_(later).add_(gradient, alpha=1 - later)
