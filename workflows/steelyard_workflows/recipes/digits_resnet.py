"""A small residual network on the 8x8 handwritten digits: what depth costs beside ``digits_cnn``.

Groups are normalised, not batches: an answer depends on its picture alone, whatever the number
of workers. Target: 97 % of the test rows right.
"""

import torch
from torch import nn

from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.digits_cnn import CLASSES, digits
from steelyard_workflows.workflow import EarlyStopping, Scaling, Train, Workflow

GROUPS = 8


class Residual(nn.Module):
    """Two convolutions added to their input; ``stride`` 2 halves the picture."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.GroupNorm(GROUPS, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, after),
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, before, h, w] to [n, after, h / stride, w / stride]."""
        return torch.relu(self.branch(x) + self.shortcut(x))


class DigitsResnet(nn.Module):
    """Logits for ten digits from one 8x8 picture: three residual blocks, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, 24),
            nn.ReLU(),
            Residual(24, 24, 1),
            Residual(24, 48, 2),
            Residual(48, 64, 2),
        )
        self.classify = nn.Linear(64, CLASSES)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 1, 8, 8] in 0..1 to [n, 10]."""
        logits: torch.Tensor = self.classify(self.blocks(pictures).mean((2, 3)))
        return logits


def digits_resnet() -> Recipe:
    """At most 12 epochs of 1,200 examples, two workers."""
    workflow = Workflow(
        model="digits-resnet",
        recipe="digits_resnet",
        train=Train(
            epochs=12, batch_size=64, optimizer="adamw", learning_rate=4e-3, weight_decay=0.01,
            schedule="cosine", warmup_steps=20,
        ),
        scaling=Scaling(workers=2),
        early_stopping=EarlyStopping(patience=4, min_delta=0.002),
    )  # fmt: skip
    return Recipe(workflow, digits, lambda _: DigitsResnet())
