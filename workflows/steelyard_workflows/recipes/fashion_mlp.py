"""A perceptron of two hidden layers on Fashion-MNIST: big enough for compression to pay.

Needs Debian's package ``dataset-fashion-mnist``, or its files in ``data.options.folder``.
Target: 88 % of the test rows right.
"""

import torch
from torch import nn

from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.fashion import CLASSES, SIDE, clothes
from steelyard_workflows.workflow import EarlyStopping, Scaling, Train, Workflow

HIDDEN = (2048, 1024)


class FashionMlp(nn.Module):
    """Logits for ten kinds of clothes; 3.7 million numbers."""

    def __init__(self) -> None:
        super().__init__()
        first, second = HIDDEN
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(SIDE * SIDE, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, CLASSES),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 1, 28, 28] in 0..1 to [n, 10]."""
        logits: torch.Tensor = self.layers(pictures)
        return logits


def fashion_mlp() -> Recipe:
    """At most 4 epochs of 54,000 examples, two workers."""
    workflow = Workflow(
        model="fashion-mlp",
        recipe="fashion_mlp",
        train=Train(
            epochs=4, batch_size=128, optimizer="adamw", learning_rate=1e-3, weight_decay=0.01,
            schedule="cosine", warmup_steps=50,
        ),
        scaling=Scaling(workers=2),
        early_stopping=EarlyStopping(patience=2, min_delta=0.002),
    )  # fmt: skip
    return Recipe(workflow, clothes, lambda _: FashionMlp())
