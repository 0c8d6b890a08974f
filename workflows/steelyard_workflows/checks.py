"""What would fail a run in the middle, looked at before anything is started."""

import shutil
from pathlib import Path

import torch
from torch import nn

from steelyard.domain import figures
from steelyard.domain.errors import Refused
from steelyard.settings import Settings
from steelyard_workflows.training.precision import unsupported
from steelyard_workflows.workflow import Workflow

STATES = {"adam": 2, "adamw": 2, "lion": 1, "sgd": 1}
"""Copies of the weights that an optimiser keeps; SGD without momentum keeps none."""

SPARE_BYTES = 64 * 2**20
"""For the journal, Ray's files, the exported model's graph."""


def check(workflow: Workflow, network: nn.Module, settings: Settings) -> None:
    """Refuse what cannot end well.

    Raises:
        Refused: bf16 on CPUs that do not compute in it, or a disk without room for checkpoints.
    """
    _check_precision(workflow)
    _check_disk(workflow, network, settings.checkpoint_dir)


def _check_precision(workflow: Workflow) -> None:
    """Of CPUs; a worker on a GPU asks its own."""
    if workflow.scaling.gpus_per_worker:
        return
    reason = unsupported(workflow.train.precision, torch.device("cpu"))
    if reason is not None:
        raise Refused(reason, "Or use workers on GPUs: scaling.gpus_per_worker.")


def _check_disk(workflow: Workflow, network: nn.Module, folder: Path) -> None:
    needed = checkpoint_bytes(workflow, network) * (workflow.checkpoints.keep + 1) + SPARE_BYTES
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise Refused(
            f"The run needs {figures.size(needed)} for checkpoints, {place} has "
            f"{figures.size(free)} free.",
            "Make room, lower checkpoints.keep, or set STEELYARD_HOME to another disk.",
        )


def checkpoint_bytes(workflow: Workflow, network: nn.Module) -> int:
    """The size of one checkpoint: weights, statistics, and what the optimiser keeps of each.

    One more than ``checkpoints.keep`` exist for a moment: the new one, before an old one goes.
    """
    train = workflow.train
    states = 0 if train.optimizer == "sgd" and not train.momentum else STATES[train.optimizer]
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    buffers = sum(b.numel() * b.element_size() for b in network.buffers())
    return weights * (1 + states) + buffers
