"""The validation split, judged by all workers together."""

import torch
import torch.distributed as dist
from torch import nn

from steelyard_workflows.recipe import Loss
from steelyard_workflows.training.precision import autocast
from steelyard_workflows.training.stepping import Rows
from steelyard_workflows.workflow import Precision


def validate(
    network: nn.Module, loss: Loss, rows: Rows, batch: int, rank: int, world: int,
    precision: Precision, device: torch.device,
) -> tuple[float, float, int]:  # fmt: skip
    """Mean loss and share of right labels over all workers; rows that this one has judged.

    ``batch`` rows at a time go to each worker. All of them call the network equally often,
    because a sharded one needs every worker; one that has no row left judges the first again,
    which does not count.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    judged = 0
    network.eval()
    with torch.no_grad():
        for own in torch.arange(len(rows)).split(batch * world):
            mine = own[rank::world]
            inputs, labels = rows.take(mine if len(mine) else own[:1])
            with autocast(precision, device):
                logits = network(inputs)
            if len(mine):
                sums += _judged(loss, logits.float(), labels)
                judged += len(mine)
    network.train()
    if world > 1:
        dist.all_reduce(sums)
    total, right, labels_seen = sums.tolist()
    return total / labels_seen, right / labels_seen, judged


def _judged(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss × labels, right labels, labels."""
    count = labels.numel()
    right = (logits.argmax(-1) == labels).sum()
    mean = loss(logits, labels).double()
    return torch.stack([mean * count, right.double(), torch.full_like(mean, count)])
