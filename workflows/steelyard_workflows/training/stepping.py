"""One optimiser step of all workers: forward, vote, backward, exchange, clip, step.

With the loss the workers exchange two votes: is it finite, and shall we stop? The exchange runs
while the gradients are computed, and nothing is learned from a loss that is no number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from steelyard_workflows.data import Split
from steelyard_workflows.recipe import Loss
from steelyard_workflows.training.parallel import Shared
from steelyard_workflows.training.precision import autocast
from steelyard_workflows.workflow import Train


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the workers found: the mean loss of all, and whether one of them wants to stop."""

    loss: float
    finite: bool
    stop: bool


class Vote:
    """The workers' sum of (loss is not finite, stop, loss / workers), on its way."""

    def __init__(self, loss: torch.Tensor, stop: bool, world: int) -> None:
        mean = loss.double() / world
        self._sums = torch.stack(
            [(~torch.isfinite(mean)).double(), torch.full_like(mean, float(stop)), mean]
        )
        self._work = dist.all_reduce(self._sums, async_op=True) if world > 1 else None

    def counted(self) -> Verdict:
        """Wait for the others."""
        if self._work is not None:
            self._work.wait()
        not_finite, stop, loss = self._sums.tolist()
        return Verdict(loss, not_finite == 0, stop > 0)


class Rows:
    """A split's rows as tensors, handed out on a device."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._inputs, self._labels = torch.from_numpy(split.inputs), torch.from_numpy(split.labels)
        self._device = device

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of some rows."""
        return self._inputs[rows].to(self._device), self._labels[rows].to(self._device)


@dataclass
class Stepper:
    """What computes a step on this worker."""

    shared: Shared
    optimizer: torch.optim.Optimizer
    loss: Loss
    rows: Rows
    train: Train
    world: int
    device: torch.device

    def step(self, batches: Sequence[torch.Tensor], rate: float, stop: bool) -> Verdict:
        """Learn from ``batches`` as from one, at a learning ``rate``; ``stop``: this one's vote.

        Where the loss is not finite on any worker the weights stay as they were on all.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        vote = self._backward(batches, stop)
        verdict = vote.counted()
        if verdict.finite:
            if self.train.clip_norm is not None:
                parameters = self.shared.network.parameters()
                nn.utils.clip_grad_norm_(parameters, self.train.clip_norm)
            self.optimizer.step()
        return verdict

    def _backward(self, batches: Sequence[torch.Tensor], stop: bool) -> Vote:
        """Gradients of the mean over all rows; the exchange goes with the last batch."""
        whole = sum(len(rows) for rows in batches)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in batches[:-1]:
            with self.shared.exchanging(False):
                loss = self._loss(rows) * (len(rows) / whole)
                loss.backward()
            total += loss.detach()
        with self.shared.exchanging(True):
            loss = self._loss(batches[-1]) * (len(batches[-1]) / whole)
            vote = Vote(total + loss.detach(), stop, self.world)
            loss.backward()
        return vote

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        inputs, labels = self.rows.take(rows)
        with autocast(self.train.precision, self.device):
            logits = self.shared.forward(inputs)
        return self.loss(logits.float(), labels)
