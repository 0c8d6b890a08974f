"""A wider GPT than the recipe's, 25 million numbers: for memory, and for the MFU of a GPU."""

import torch
from torch import nn

from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.byte_gpt import CLASSES, CONTEXT, reference
from steelyard_workflows.recipes.transformer import Layer
from steelyard_workflows.workflow import Checkpoints, Scaling, Train, Workflow

WIDTH, HEADS, LAYERS = 512, 8, 8


class WideGpt(nn.Module):
    """Logits for the next byte at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, WIDTH)
        self.places = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.02)
        self.layers = nn.ModuleList(Layer(WIDTH, HEADS, causal=True) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.predict = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, 64] int64 to [n, 64, 256]."""
        x = self.embed(tokens) + self.places
        for layer in self.layers:
            x = layer(x)
        logits: torch.Tensor = self.predict(self.norm(x))
        return logits


def few_rows(workflow: Workflow) -> Dataset:
    """The recipe's text, 192 windows to learn from and 32 to judge by."""
    whole = reference(workflow)
    return Dataset(
        *(
            Split(split.inputs[:count], split.labels[:count], split.rows[:count])
            for split, count in ((whole.train, 192), (whole.validation, 32), (whole.test, 32))
        )
    )


def wide_gpt() -> Recipe:
    """Twelve steps of sixteen rows."""
    workflow = Workflow(
        model="wide-gpt",
        recipe="wide_gpt:wide_gpt",
        train=Train(epochs=1, steps=12, batch_size=16, optimizer="adamw", learning_rate=1e-3),
        scaling=Scaling(workers=2),
        checkpoints=Checkpoints(keep=1),
    )
    return Recipe(workflow, few_rows, lambda _: WideGpt())
