"""The networks that recipes train."""

from collections.abc import Callable

import torch
from torch import nn


class DigitsCnn(nn.Module):
    """Logits for ten digits from one 8x8 picture: two convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 1, 8, 8] in 0..1 to [n, 10]."""
        logits: torch.Tensor = self.layers(pictures)
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {"digits_cnn": DigitsCnn}


def build(recipe: str, seed: int) -> nn.Module:
    """The network of a recipe with weights drawn from ``seed``: the same on every worker."""
    torch.manual_seed(seed)
    return NETWORKS[recipe]()


def parameter_count(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())
