"""What would fail a run in the middle, looked at before anything is started."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from steelyard.domain import figures
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.settings import Settings
from steelyard_workflows.afterwards import evaluation_sets
from steelyard_workflows.loading import Loaded
from steelyard_workflows.training.precision import unsupported
from steelyard_workflows.trial import classes_of
from steelyard_workflows.variants.steps import steps_of
from steelyard_workflows.workflow import Variant, Workflow

STATES = {"adam": 2, "adamw": 2, "lion": 1, "sgd": 1}
"""Copies of the weights that an optimiser keeps; SGD without momentum keeps none."""

SPARE_BYTES = 64 * 2**20
"""For the journal, Ray's files, the exported model's graph."""


def check(workflow: Workflow, network: nn.Module, settings: Settings, runs: int = 1) -> None:
    """Refuse what cannot end well. ``runs``: how many of its size leave their checkpoints.

    Raises:
        Refused: bf16 on CPUs that do not compute in it, or a disk without room for checkpoints.
    """
    _check_precision(workflow)
    _check_disk(workflow, network, settings.checkpoint_dir, runs)


def check_afterwards(workflow: Workflow, made: Loaded) -> None:
    """Refuse what cannot be made of the version, before hours are spent on training it.

    Raises:
        InvalidInput: with every kind of variant that does not exist, and every evaluation set
            that does not import, cannot be used, or holds rows that are learned from.
    """
    classes = classes_of(made.network, made.dataset)
    looks: list[Callable[[], object]] = [
        *(partial(_check_kind, variant) for variant in workflow.variants),
        partial(evaluation_sets.load, workflow, made.dataset, classes),
    ]
    faults: list[Fault] = []
    for look in looks:
        try:
            look()
        except InvalidInput as error:
            faults += error.faults
    if faults:
        raise InvalidInput(
            "What is to follow training cannot be made.", tuple(faults),
            "See docs/reference/workflow.md.",
        )  # fmt: skip


def _check_kind(wanted: Variant) -> None:
    try:
        steps_of(wanted.kind, wanted.options)
    except InvalidInput as error:
        faults = tuple(Fault(f"variants.{wanted.kind}", str(fault)) for fault in error.faults)
        raise InvalidInput(error.message, faults) from error


def _check_precision(workflow: Workflow) -> None:
    """Of CPUs; a worker on a GPU asks its own."""
    if workflow.scaling.gpus_per_worker:
        return
    reason = unsupported(workflow.train.precision, torch.device("cpu"))
    if reason is not None:
        raise Refused(reason, "Or use workers on GPUs: scaling.gpus_per_worker.")


def _check_disk(workflow: Workflow, network: nn.Module, folder: Path, runs: int) -> None:
    kept = workflow.checkpoints.keep * runs + 1
    needed = checkpoint_bytes(workflow, network) * kept + SPARE_BYTES
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
