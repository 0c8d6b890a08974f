"""Fine-tuning a small pretrained sentence encoder: the task of ``text_transformer``, few rows.

The last layers of MiniLM are trained and a linear layer on top; words and lower layers stay as
they are. ``data.options.train_rows`` says with how many sentences, 1,200 by default.
Target: 70 % of the test rows right, 65 % after one epoch, with a tenth of the sentences that
``text_transformer`` needs.
Needs ``pip install 'steelyard[encoder]'``.
"""

import numpy as np
import torch
from torch import nn

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.data import Dataset, divide, shifted
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes import minilm
from steelyard_workflows.recipes.sentences import SOURCES, bucket, sentences
from steelyard_workflows.workflow import (
    Checkpoints,
    Data,
    EarlyStopping,
    Scaling,
    Train,
    Workflow,
)

CLASSES = len(SOURCES)
WORDS = 32
"""Length of every row; 0 fills up."""
TRAINED_LAYERS = 2
JUDGED_ROWS = 400
LEFT_OUT = -1
ORDER_SEED = 20240607


class SentenceEncoder(nn.Module):
    """Logits for the four libraries from MiniLM's vector."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = minilm.pretrained().requires_grad_(False)
        self.encoder.layers[-TRAINED_LAYERS:].requires_grad_(True)
        self.classify = nn.Linear(minilm.WIDTH, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, 32] int64 to [n, 4]."""
        logits: torch.Tensor = self.classify(self.encoder(tokens))
        return logits


def documentation(workflow: Workflow) -> Dataset:
    """Sentences in MiniLM's own word pieces, each file's in one split; a few of each split."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm.folder() / "tokenizer.json"))
    tokenizer.enable_truncation(WORDS)
    tokenizer.enable_padding(length=WORDS)
    found = sentences()
    inputs = np.array([one.ids for one in tokenizer.encode_batch([text for text, _, _ in found])])
    labels = np.array([label for _, label, _ in found], np.int64)
    buckets = np.array([bucket(file, 16) for _, _, file in found])
    purpose = np.select([buckets < 2, buckets < 4], [2, 1], 0)
    order = np.random.default_rng(ORDER_SEED).permutation(len(found))
    for number, count in enumerate((_train_rows(workflow), JUDGED_ROWS, JUDGED_ROWS)):
        purpose[order[purpose[order] == number][count:]] = LEFT_OUT
    return divide(inputs.astype(np.int64), shifted(labels, workflow, CLASSES), purpose)


def _train_rows(workflow: Workflow) -> int:
    rows = workflow.data.options.get("train_rows", 1_200)
    if type(rows) is not int or rows < 1:
        fault = Fault("data.options.train_rows", f"must be a whole number from 1, found {rows!r}")
        raise InvalidInput(str(fault), (fault,))
    return rows


def sentence_encoder() -> Recipe:
    """At most 3 epochs of 1,200 sentences, two workers."""
    workflow = Workflow(
        model="library-of-encoder",
        recipe="sentence_encoder",
        data=Data(options={"train_rows": 1_200}),
        train=Train(
            epochs=3, batch_size=32, optimizer="adamw", learning_rate=3e-4, weight_decay=0.01,
            schedule="linear", warmup_steps=10, clip_norm=1.0,
        ),
        scaling=Scaling(workers=2),
        checkpoints=Checkpoints(keep=1),
        early_stopping=EarlyStopping(patience=2, min_delta=0.002),
    )  # fmt: skip
    return Recipe(workflow, documentation, lambda _: SentenceEncoder())
