"""How a run on Ray ended: said, raised, or its best checkpoint loaded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.train import Checkpoint, Result, TrainingFailedError
from torch import nn

from steelyard.cli.output import note
from steelyard.domain.errors import Refused, SteelyardError
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.tracking.run_page import set_tags
from steelyard_workflows.training import place
from steelyard_workflows.workflow import Workflow

STOPPED_TAG = "steelyard.stopped"
"""Why a run was ended before its time: by one of its limits, or by its sweep."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The best checkpoint: its folder, its epoch, its value of the watched metric.

    ``stopped`` says why the run ended before its time; None when it did not.
    """

    checkpoint: Path
    epoch: int
    value: float
    stopped: str | None


def tell_end(entries: Sequence[Entry], settings: Settings, run_id: str) -> str | None:
    """Say why a run ended early; raise where nothing came of it."""
    ended = journal.reason(entries, "diverged", "refused")
    if ended is not None and ended.event == "refused":
        raise Refused(
            f"Training run {run_id} was refused by its workers: {ended.reason}.",
            "The attempt is booked. Nothing was registered.",
        )
    if ended is not None:
        raise SteelyardError(
            f"Training run {run_id} diverged: {ended.reason}.",
            "Lower train.learning_rate, set train.clip_norm, or look for such values in the data. "
            "The run was not tried again; its attempts are booked. Nothing was registered.",
        )
    stopped = journal.reason(entries, "stopped")
    if stopped is None:
        return None
    note(f"  stopped: {stopped.reason}; the best checkpoint so far is used")
    set_tags(settings, run_id, {STOPPED_TAG: str(stopped.reason)})
    return stopped.reason


def failed(run_id: str, error: TrainingFailedError, path: Path) -> SteelyardError:
    """What to raise when the last attempt has failed."""
    attempts = {entry.attempt for entry in journal.read(path)}
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return SteelyardError(
        f"Training run {run_id} failed after {len(attempts)} attempt(s): {reason[0]}",
        "The run is FAILED in MLflow; its attempts are booked. Nothing was registered.",
    )


def lost(run_id: str, error: RayActorError) -> SteelyardError:
    """What to raise when the controller's process is gone."""
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return SteelyardError(
        f"Training run {run_id} lost its controller: {reason[0]}",
        "The run is FAILED in MLflow; its attempts are booked. Nothing was registered.",
    )


def load_best(
    result: Result, workflow: Workflow, network: nn.Module, stopped: str | None
) -> Fitted:  # fmt: skip
    """Load the best checkpoint of a run that ended well into ``network``.

    Raises:
        SteelyardError: it reported none.
    """
    rule = workflow.early_stopping
    sign = 1 if rule.mode == "max" else -1
    kept: list[tuple[Checkpoint, dict[str, Any]]] = result.best_checkpoints or []
    judged = [pair for pair in kept if math.isfinite(pair[1].get(rule.metric, math.nan))]
    if not judged:
        raise SteelyardError(
            f"The run reported no checkpoint with {rule.metric}: there is nothing to register.",
            "A loop of your own must report one, with early_stopping.metric among its metrics.",
        )
    best, metrics = max(judged, key=lambda pair: sign * pair[1][rule.metric])
    note(f"  best: epoch {metrics['epoch']}, {rule.metric} {metrics[rule.metric]:.4f}")
    with best.as_directory() as folder:
        _, state = place.load(Path(folder))
    network.load_state_dict(state["network"])
    return Fitted(Path(best.path), int(metrics["epoch"]), float(metrics[rule.metric]), stopped)
