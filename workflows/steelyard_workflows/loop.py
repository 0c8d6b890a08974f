"""What each Ray Train worker runs: epochs of data-parallel SGD, checkpoints, reports.

Imports neither MLflow nor the ledger's stores: a worker only computes and reports.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn

from steelyard_workflows import recipe
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.stopping import Progress, observe, should_stop
from steelyard_workflows.workflow import Workflow

CHECKPOINT_FILE = "state.pt"


@dataclass
class Worker:
    """One rank's network (wrapped for gradient exchange), optimiser and place in the run."""

    network: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    rank: int
    world: int
    epoch: int = 0
    progress: Progress = field(default_factory=Progress)


def train_worker(config: dict[str, Any]) -> None:
    """Train until the epochs or the patience run out; continue from a checkpoint if there is one.

    ``config``: ``workflow`` as a dictionary, the ``dataset``, ``forward`` and ``train_step`` FLOPs
    of one item or None. Every epoch is reported with the worker's items and FLOPs.
    """
    workflow = Workflow.model_validate(config["workflow"])
    torch.set_num_threads(1)
    dataset: Dataset = config["dataset"]
    worker = _set_up(workflow)
    rule = workflow.early_stopping
    while worker.epoch < workflow.train.epochs and not should_stop(worker.progress, rule):
        worker.epoch += 1
        metrics = _epoch(worker, workflow, dataset, config)
        worker.progress = observe(worker.progress, metrics[rule.metric], rule)
        last = worker.epoch == workflow.train.epochs or should_stop(worker.progress, rule)
        due = last or worker.epoch % workflow.checkpoints.every == 0
        _report(worker, metrics, with_checkpoint=due and worker.rank == 0)


def _set_up(workflow: Workflow) -> Worker:
    context = ray.train.get_context()
    network = recipe.of(workflow).build(workflow)
    optimizer = torch.optim.Adam(network.parameters(), lr=workflow.train.learning_rate)
    rank, world = context.get_world_rank(), context.get_world_size()
    worker = Worker(network, network, optimizer, rank, world)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            _resume(worker, Path(folder))
    worker.wrapped = ray.train.torch.prepare_model(network)
    return worker


def _resume(worker: Worker, folder: Path) -> None:
    state = torch.load(folder / CHECKPOINT_FILE, weights_only=True)
    worker.network.load_state_dict(state["network"])
    worker.optimizer.load_state_dict(state["optimizer"])
    worker.epoch = state["epoch"]
    worker.progress = Progress(state["best"], state["stale"])


def _epoch(
    worker: Worker, workflow: Workflow, dataset: Dataset, config: dict[str, Any]
) -> dict[str, Any]:
    train_loss, items = _learn(worker, workflow, dataset.train)
    loss, correct, rows = _validate(worker, dataset.validation)
    sums = _summed(worker, [train_loss, items, loss, correct, rows])
    flop = None
    if config["forward"] is not None and config["train_step"] is not None:
        flop = items * config["train_step"] + rows * config["forward"]
    return {
        "epoch": worker.epoch,
        "train_loss": sums[0] / sums[1],
        "validation_loss": sums[2] / sums[4],
        "validation_accuracy": sums[3] / sums[4],
        "items": items,
        "flop": flop,
    }


def _learn(worker: Worker, workflow: Workflow, split: Split) -> tuple[float, int]:
    """Loss sum and items of one pass over this rank's share, the smaller last step included.

    All ranks take equally many steps of equal size.
    """
    generator = torch.Generator().manual_seed(workflow.train.seed * 1_000_003 + worker.epoch)
    order = torch.randperm(len(split), generator=generator)
    own = order[worker.rank :: worker.world][: len(split) // worker.world]
    inputs, labels = torch.from_numpy(split.inputs), torch.from_numpy(split.labels)
    total, items = 0.0, 0
    worker.wrapped.train()
    for rows in own.split(workflow.train.batch_size // worker.world):
        loss = nn.functional.cross_entropy(worker.wrapped(inputs[rows]), labels[rows])
        worker.optimizer.zero_grad()
        loss.backward()
        worker.optimizer.step()
        total += loss.item() * len(rows)
        items += len(rows)
    return total, items


def _validate(worker: Worker, split: Split) -> tuple[float, int, int]:
    """Loss sum, correct answers and rows of this rank's share of the validation split."""
    inputs = torch.from_numpy(split.inputs)[worker.rank :: worker.world]
    labels = torch.from_numpy(split.labels)[worker.rank :: worker.world]
    worker.network.eval()
    with torch.no_grad():
        logits = worker.network(inputs)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum").item()
    return loss, int((logits.argmax(1) == labels).sum()), len(labels)


def _summed(worker: Worker, values: list[float]) -> list[float]:
    """The sums over all workers: equal numbers everywhere make equal decisions."""
    if worker.world == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return sums.tolist()


def _report(worker: Worker, metrics: dict[str, Any], *, with_checkpoint: bool) -> None:
    if not with_checkpoint:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        state = {
            "network": worker.network.state_dict(),
            "optimizer": worker.optimizer.state_dict(),
            "epoch": worker.epoch,
            "best": worker.progress.best,
            "stale": worker.progress.stale,
        }
        torch.save(state, Path(folder) / CHECKPOINT_FILE)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
