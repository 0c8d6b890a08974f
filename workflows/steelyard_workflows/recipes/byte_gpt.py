"""A small GPT, trained from scratch on the language reference that Python carries with itself.

The text is ``pydoc_data.topics``, what ``help("while")`` prints: 465,000 bytes. A token is a byte,
a label the byte after it. Target: 42 % of the test bytes right, and a loss at least 0.2 nats below
that of a bigram table counted from the same training bytes (which has 38 % right).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard_workflows.data import Dataset, Split, divide, shifted
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.sentences import bucket
from steelyard_workflows.recipes.transformer import Layer
from steelyard_workflows.workflow import EarlyStopping, Scaling, Train, Workflow

CLASSES = 256
CONTEXT = 64
"""Bytes of a row. A shorter text is filled up on the right: no byte sees what follows it."""
WIDTH, HEADS, LAYERS = 64, 4, 2


class ByteGpt(nn.Module):
    """Logits for the next byte at every place."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS, layers: int = LAYERS) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, width)
        self.places = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads, causal=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, CLASSES, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.predict.weight = self.embed.weight

    @property
    def hyperparameters(self) -> dict[str, int]:
        """What a network of this size is made with, also after layers were taken out."""
        first = self.layers[0]
        assert isinstance(first, Layer)
        width, layers = self.embed.embedding_dim, len(self.layers)
        return {"width": width, "heads": first.heads, "layers": layers}

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, 64] int64 to [n, 64, 256]."""
        x = self.embed(tokens) + self.places
        for layer in self.layers:
            x = layer(x)
        logits: torch.Tensor = self.predict(self.norm(x))
        return logits


def reference(workflow: Workflow) -> Dataset:
    """Windows of 64 bytes of every topic; a topic is in one split as a whole."""
    from pydoc_data.topics import topics

    windows, purpose = [], []
    for name in sorted(topics):
        text = np.frombuffer(topics[name].encode(), np.uint8).astype(np.int64)
        count = (len(text) - 1) // CONTEXT
        place = bucket(name, 8)
        for n in range(count):
            windows.append(text[n * CONTEXT : (n + 1) * CONTEXT + 1])
            purpose.append({0: 1, 1: 2}.get(place, 0))
    table = np.stack(windows)
    return divide(table[:, :-1], shifted(table[:, 1:], workflow, CLASSES), np.array(purpose))


def bigram(train: Split, judged: Split) -> tuple[float, float]:
    """Loss in nats and accuracy of a bigram table, each count one higher, on ``judged``."""
    counts: NDArray[np.float64] = np.ones((CLASSES, CLASSES))
    np.add.at(counts, (train.inputs.ravel(), train.labels.ravel()), 1)
    before, after = judged.inputs.ravel(), judged.labels.ravel()
    chances = counts[before, after] / counts[before].sum(1)
    return float(-np.log(chances).mean()), float((counts[before].argmax(1) == after).mean())


def byte_gpt() -> Recipe:
    """At most 3 epochs, two workers."""
    workflow = Workflow(
        model="byte-gpt",
        recipe="byte_gpt",
        train=Train(
            epochs=3, batch_size=16, optimizer="adamw", learning_rate=4e-3, weight_decay=0.05,
            schedule="cosine", warmup_steps=50, clip_norm=1.0,
        ),
        scaling=Scaling(workers=2),
        early_stopping=EarlyStopping(patience=2, min_delta=0.005),
    )  # fmt: skip
    return Recipe(workflow, reference, lambda _: ByteGpt())
