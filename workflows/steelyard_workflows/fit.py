"""Training on the connected Ray cluster: attempts, checkpoints, the best of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer
from torch import nn

from steelyard.bootstrap import producer
from steelyard.cli.output import note
from steelyard.domain.errors import SteelyardError
from steelyard.domain.metering import Outcome
from steelyard.domain.model_version import FlopsProfile
from steelyard.settings import Settings
from steelyard_workflows import journal
from steelyard_workflows.callbacks import LedgerCallback
from steelyard_workflows.data import Dataset
from steelyard_workflows.interrupts import restored
from steelyard_workflows.journal import Entry, Follower
from steelyard_workflows.loop import CHECKPOINT_FILE, train_worker
from steelyard_workflows.metering import Booking, Charge, Work, charge_for, now_us
from steelyard_workflows.tracking import log_metrics
from steelyard_workflows.trainer import FixedClusterTrainer
from steelyard_workflows.workflow import Workflow

Loop = Callable[[dict[str, Any]], None]


def fit(
    workflow: Workflow, profile: FlopsProfile, settings: Settings, run_id: str,
    network: nn.Module, dataset: Dataset, loop: Loop = train_worker,
) -> None:  # fmt: skip
    """Train on the connected Ray cluster and load the best checkpoint into ``network``."""
    charge = charge_for(settings, run_id, workflow.model, workflow.scaling.cpus, workflow.team)
    path = settings.checkpoint_dir / run_id / "journal.jsonl"
    make = TorchTrainer if settings.ray_address else FixedClusterTrainer
    trainer = make(
        loop,
        train_loop_config={
            "workflow": workflow.model_dump(),
            "dataset": dataset,
            "forward": profile.forward,
            "train_step": profile.train_step,
        },
        scaling_config=ScalingConfig(
            num_workers=workflow.scaling.workers,
            resources_per_worker={"CPU": workflow.scaling.cpus_per_worker},
        ),
        run_config=_run_config(workflow, settings, run_id, LedgerCallback(settings, charge, path)),
    )
    outcome: Outcome = "failed"
    try:
        with restored(), Follower(path, lambda entry: _show(entry, workflow, settings, run_id)):
            result = trainer.fit()
    except TrainingFailedError as error:
        raise _failed(run_id, error, path) from error
    except (KeyboardInterrupt, SystemExit) as stop:
        # Ray Train answers Ctrl-C by aborting its controller and then leaving with SystemExit.
        outcome = "cancelled"
        raise KeyboardInterrupt from stop
    finally:
        _close_open_attempt(settings, charge, path, outcome)
    _load_best(result, workflow, network)


def _run_config(
    workflow: Workflow, settings: Settings, run_id: str, callback: LedgerCallback
) -> RunConfig:
    rule = workflow.early_stopping
    return RunConfig(
        name=run_id,
        storage_path=str(settings.checkpoint_dir),
        failure_config=FailureConfig(max_failures=workflow.failure.max_retries),
        checkpoint_config=CheckpointConfig(
            num_to_keep=workflow.checkpoints.keep,
            checkpoint_score_attribute=rule.metric,
            checkpoint_score_order=rule.mode,
        ),
        # Typed for the public UserCallback; internal callbacks are taken and called as well.
        callbacks=[callback],  # type: ignore[list-item]
    )


def _show(entry: Entry, workflow: Workflow, settings: Settings, run_id: str) -> None:
    if entry.event == "attempt_started" and entry.attempt > 1:
        note(f"  attempt {entry.attempt}: continues from the last checkpoint")
    elif entry.event == "attempt_ended" and entry.outcome != "ok":
        note(f"  attempt {entry.attempt}: {entry.outcome}")
    elif entry.event == "report":
        values = dict(entry.metrics)
        epoch = int(values.pop("epoch"))
        log_metrics(settings, run_id, values, epoch, entry.at_us)
        note(
            f"  epoch {epoch}/{workflow.train.epochs}: loss {values['train_loss']:.3f}, "
            f"validation loss {values['validation_loss']:.3f}, "
            f"accuracy {values['validation_accuracy']:.4f}"
        )


def _failed(run_id: str, error: TrainingFailedError, path: Path) -> SteelyardError:
    attempts = {entry.attempt for entry in journal.read(path)}
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return SteelyardError(
        f"Training run {run_id} failed after {len(attempts)} attempt(s): {reason[0]}",
        "The run is FAILED in MLflow; its attempts are booked. Nothing was registered.",
    )


def _close_open_attempt(
    settings: Settings, charge: Charge, path: Path, outcome: Outcome
) -> None:  # fmt: skip
    """Book what a controller that is gone has left open, up to now."""
    left = journal.open_attempt(journal.read(path))
    if left is None:
        return
    writer = producer(settings, f"driver:{charge.run_id}")
    resource_id = f"train/{charge.run_id}/{left.attempt}"
    booking = Booking(writer, charge, resource_id, left.started_us, left.attempt)
    booking.skip_to(left.booked_until_us)
    at_us = now_us()
    booking.window("train", at_us, Work())
    booking.end(max(at_us, booking.booked_until_us), outcome)
    journal.append(path, Entry("attempt_ended", left.attempt, at_us, outcome))


def _load_best(result: Result, workflow: Workflow, network: nn.Module) -> None:
    rule = workflow.early_stopping
    sign = 1 if rule.mode == "max" else -1
    kept: list[tuple[Checkpoint, dict[str, Any]]] = result.best_checkpoints or []
    best, metrics = max(kept, key=lambda pair: sign * pair[1][rule.metric])
    note(f"  best: epoch {metrics['epoch']}, {rule.metric} {metrics[rule.metric]:.4f}")
    with best.as_directory() as folder:
        state = torch.load(Path(folder) / CHECKPOINT_FILE, weights_only=True)
    network.load_state_dict(state["network"])
