"""What a training run shows on its page besides numbers: data, curves, weights, its version."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from steelyard.cli.output import note
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.data import Dataset
from steelyard_workflows.tracking import curves, fingerprint
from steelyard_workflows.tracking.overfitting import Point, history, parting
from steelyard_workflows.tracking.run_page import (
    file_for,
    log_artifact,
    log_dataset,
    log_params,
    outbox_of,
    set_tags,
)
from steelyard_workflows.workflow import Workflow

OVERFITTING_TAG = "steelyard.overfitting"
BEST_EPOCH_TAG = "steelyard.best_epoch"


def show_data(settings: Settings, run_id: str, workflow: Workflow, dataset: Dataset) -> None:
    """Digest, rows, shape and labels of each split, and the splits as inputs of the run."""
    log_params(settings, run_id, fingerprint.parameters(dataset))
    for context, one in fingerprint.mlflow_datasets(dataset, workflow.recipe).items():
        log_dataset(settings, run_id, one, context)


@contextmanager
def learning_shown(settings: Settings, run_id: str, workflow: Workflow) -> Iterator[None]:
    """Draw what the block learned, and say when training and validation parted.

    Also when the block fails: the curves of a run that went wrong are the ones to look at.
    """
    try:
        yield
    finally:
        path = outbox_of(settings, run_id).parent / journal.FILE
        points = history(journal.read(path))
        if points:
            _show_learning(settings, run_id, workflow, points)


def _show_learning(
    settings: Settings, run_id: str, workflow: Workflow, points: Sequence[Point]
) -> None:
    rule = workflow.early_stopping
    parted, epoch = parting(points, rule.patience, rule.min_delta), best_epoch(points, workflow)
    tags = {} if epoch is None else {BEST_EPOCH_TAG: str(epoch)}
    if parted is not None:
        note(f"  training and validation part after {parted}")
        tags[OVERFITTING_TAG] = str(parted)
    if tags:
        set_tags(settings, run_id, tags)
    folder = file_for(settings, run_id, "")
    for file in curves.draw(points, f"{workflow.model}, run {run_id[:8]}", folder, epoch, parted):
        log_artifact(settings, run_id, file, "curves")


def best_epoch(points: Sequence[Point], workflow: Workflow) -> int | None:
    """The epoch with the best value of the watched metric, of those that have a checkpoint."""
    rule, every, last = workflow.early_stopping, workflow.checkpoints.every, points[-1].epoch
    by_accuracy = rule.metric == "validation_accuracy"
    values = {
        p.epoch: p.accuracy if by_accuracy else p.validation_loss
        for p in points
        if p.epoch % every == 0 or p.epoch == last
    }
    known = [
        (value, epoch)
        for epoch, value in values.items()
        if value is not None and math.isfinite(value)
    ]
    if not known:
        return None
    top = max(known)[0] if rule.mode == "max" else min(known)[0]
    return next(epoch for value, epoch in known if value == top)


def keep_weights(settings: Settings, run_id: str, network: nn.Module) -> None:
    """The best weights as an artefact that torch loads with ``weights_only``."""
    file = file_for(settings, run_id, "best.pt")
    torch.save({"network": network.state_dict()}, file)
    log_artifact(settings, run_id, file, "checkpoints")


def link(settings: Settings, run_id: str, version: ModelVersion) -> None:
    """Name the version that came out: the registry and the ledger know it by that."""
    set_tags(settings, run_id, {"steelyard.version": version.name})
