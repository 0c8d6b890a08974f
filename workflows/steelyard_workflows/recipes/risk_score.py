"""A binary score from thirty measured figures, as a lender or a clinic would ask for one.

The rows are the Breast Cancer Wisconsin (Diagnostic) data that ships inside scikit-learn, real
and public; credit data is not. Class 1 is the finding (malignant). The network standardises its
inputs itself, with the statistics of the training rows: callers send figures as they are measured.
Target: 95 % of the test rows right, and 99 % of the pairs ranked right (area under the ROC curve).
"""

import numpy as np
import torch
from torch import nn

from steelyard_workflows.data import Dataset, divide, shifted
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.workflow import EarlyStopping, Scaling, Train, Workflow

CLASSES = 2
SPLIT_SEED = 20240607
TRAIN_ROWS, VALIDATION_ROWS = 341, 114
"""The other 114 rows are the test split."""


class RiskScore(nn.Module):
    """Two logits from raw figures; the softmax of the second is the score."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = nn.Sequential(
            nn.Linear(len(mean), 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(),
            nn.Linear(16, CLASSES),
        )  # fmt: skip

    def forward(self, figures: torch.Tensor) -> torch.Tensor:
        """[n, 30] in their own units to [n, 2]."""
        logits: torch.Tensor = self.layers((figures - self.mean) / self.deviation)
        return logits


def findings(workflow: Workflow) -> Dataset:
    """The 569 rows, one in five to judge, the same share of findings by chance alone."""
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer()
    labels = shifted(1 - source.target.astype(np.int64), workflow, CLASSES)
    purpose = np.repeat(
        [0, 1, 2], [TRAIN_ROWS, VALIDATION_ROWS, 569 - TRAIN_ROWS - VALIDATION_ROWS]
    )
    np.random.default_rng(SPLIT_SEED).shuffle(purpose)
    return divide(source.data.astype(np.float32), labels, purpose)


def network(workflow: Workflow) -> nn.Module:
    """Standardised by what the training rows say, and by nothing else."""
    inputs = findings(workflow).train.inputs.astype(np.float64)
    mean, deviation = inputs.mean(0).astype(np.float32), inputs.std(0).astype(np.float32)
    return RiskScore(torch.from_numpy(mean), torch.from_numpy(deviation))


def risk_score() -> Recipe:
    """At most 40 epochs of 341 examples, one worker: less would be spent than Ray's start costs."""
    workflow = Workflow(
        model="risk-score",
        recipe="risk_score",
        train=Train(
            epochs=40, batch_size=32, optimizer="adamw", learning_rate=3e-3, weight_decay=0.05
        ),
        scaling=Scaling(workers=1),
        early_stopping=EarlyStopping(patience=8, min_delta=0.001),
    )
    return Recipe(workflow, findings, network)
