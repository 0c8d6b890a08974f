"""A residual network of eight layers on Fashion-MNIST.

Needs Debian's package ``dataset-fashion-mnist``, or its files in ``data.options.folder``.
Target: 90 % of the test rows right.
"""

import torch
from torch import nn

from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.fashion import CLASSES, clothes
from steelyard_workflows.workflow import EarlyStopping, Scaling, Train, Workflow

WIDTHS = (32, 64, 128)


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)
    )


class Residual(nn.Module):
    """Two convolutions added to their input; ``stride`` 2 halves the picture.

    Batches are normalised: after training the factors are the convolution's own, and INT8 takes
    both in one.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, after, stride)
        self.second = _convolution(after, after, 1)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, before, h, w] to [n, after, h / stride, w / stride]."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class FashionResnet(nn.Module):
    """Logits for ten kinds of clothes; 0.31 million numbers."""

    def __init__(self) -> None:
        super().__init__()
        narrow, middle, wide = WIDTHS
        self.blocks = nn.Sequential(
            _convolution(1, narrow, 1),
            nn.ReLU(),
            Residual(narrow, narrow, 1),
            Residual(narrow, middle, 2),
            Residual(middle, wide, 2),
        )
        self.classify = nn.Linear(wide, CLASSES)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 1, 28, 28] in 0..1 to [n, 10]."""
        logits: torch.Tensor = self.classify(self.blocks(pictures).mean((2, 3)))
        return logits


def fashion_resnet() -> Recipe:
    """At most 3 epochs of 54,000 examples, two workers: six minutes of a core an epoch here."""
    workflow = Workflow(
        model="fashion-resnet",
        recipe="fashion_resnet",
        train=Train(
            epochs=3, batch_size=128, optimizer="adamw", learning_rate=3e-3, weight_decay=0.01,
            schedule="cosine", warmup_steps=100,
        ),
        scaling=Scaling(workers=2),
        early_stopping=EarlyStopping(patience=2, min_delta=0.002),
    )  # fmt: skip
    return Recipe(workflow, clothes, lambda _: FashionResnet())
