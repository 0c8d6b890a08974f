"""Training on the connected Ray cluster: attempts, checkpoints, the best of them."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from steelyard.domain.compute import computes_in
from steelyard.domain.errors import Refused, SteelyardError
from steelyard.domain.metering import Outcome
from steelyard.domain.model_version import FlopsProfile
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.journal import Entry, Follower
from steelyard_workflows.booking.metering import Booking, Charge, Work, charge_for, now_us
from steelyard_workflows.data import Dataset
from steelyard_workflows.interrupts import restored
from steelyard_workflows.tracking.run_page import log_metrics, log_points, set_tags
from steelyard_workflows.training import place
from steelyard_workflows.training.callbacks import LedgerCallback
from steelyard_workflows.training.loop import train_worker
from steelyard_workflows.training.spending import Guard, Spending, rates_for
from steelyard_workflows.training.stop import STOP_FILE
from steelyard_workflows.training.trainer import FixedClusterTrainer
from steelyard_workflows.workflow import Workflow

Loop = Callable[[dict[str, Any]], None]
STOPPED_TAG = "steelyard.stopped"
"""Why a run was ended by one of its limits."""


def fit(
    workflow: Workflow, profile: FlopsProfile, settings: Settings, run_id: str,
    network: nn.Module, dataset: Dataset, loop: Loop = train_worker,
) -> None:  # fmt: skip
    """Train on the connected Ray cluster and load the best checkpoint into ``network``.

    Raises:
        Refused: the workflow asks for what cannot be done or counted here.
        SteelyardError: the run failed too often, or its loss is not a number any more.
        KeyboardInterrupt: Ctrl-C.
    """
    charge = _charge(workflow, settings, run_id, dataset)
    folder = settings.checkpoint_dir / run_id
    path = folder / journal.FILE
    spending = Spending(charge, rates_for(settings, charge, workflow.limits))
    guard = Guard(workflow.limits, spending, folder / STOP_FILE)
    datatype = "bf16" if workflow.train.precision == "bf16" else computes_in(profile)
    callback = LedgerCallback(settings, charge, path, datatype, guard)
    make = TorchTrainer if settings.ray_address else FixedClusterTrainer
    trainer = make(
        loop,
        train_loop_config={
            "workflow": workflow.model_dump(),
            "dataset": dataset,
            "forward": profile.forward,
            "train_step": profile.train_step,
            "stop_file": str(folder / STOP_FILE),
        },
        scaling_config=_scaling(workflow),
        run_config=_run_config(workflow, settings, run_id, callback),
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
    _tell_end(journal.read(path), settings, run_id)
    _load_best(result, workflow, network)


def _charge(workflow: Workflow, settings: Settings, run_id: str, dataset: Dataset) -> Charge:
    """Who pays for which devices: the GPUs where some are reserved, else the CPUs."""
    scaling = workflow.scaling
    if len(dataset.train) < scaling.workers:
        raise Refused(
            f"{len(dataset.train)} training rows for {scaling.workers} workers: one would get "
            "none.",
            "Lower scaling.workers, or give more rows.",
        )
    gpus = scaling.workers * scaling.gpus_per_worker
    if gpus and settings.device_model == Settings.model_fields["device_model"].default:
        raise Refused(
            f"The run reserves GPUs, and device_model is {settings.device_model!r}: their cost "
            "and energy would be booked as a CPU's.",
            "Set STEELYARD_DEVICE_MODEL and STEELYARD_PRICE_SKU to the GPU's.",
        )
    return charge_for(settings, run_id, workflow.model, gpus or scaling.cpus, workflow.team)


def _scaling(workflow: Workflow) -> ScalingConfig:
    each = {"CPU": workflow.scaling.cpus_per_worker}
    gpus = workflow.scaling.gpus_per_worker
    return ScalingConfig(
        num_workers=workflow.scaling.workers,
        use_gpu=gpus > 0,
        resources_per_worker={**each, "GPU": gpus} if gpus else each,
    )


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
    log_points(settings, run_id, entry.points, entry.at_us)
    if entry.event == "attempt_started" and entry.attempt > 1:
        note(f"  attempt {entry.attempt}: continues from the last checkpoint")
    elif entry.event == "attempt_ended" and entry.outcome != "ok":
        note(f"  attempt {entry.attempt}: {entry.outcome}")
    elif entry.event == "report":
        values = dict(entry.metrics)
        epoch = int(values.pop("epoch"))
        values.pop("step", None)
        log_metrics(settings, run_id, values, epoch, entry.at_us)
        note(
            f"  epoch {epoch}/{workflow.train.epochs}: loss {values['train_loss']:.3f}, "
            f"validation loss {values['validation_loss']:.3f}, "
            f"accuracy {values['validation_accuracy']:.4f}"
        )


def _tell_end(entries: Sequence[Entry], settings: Settings, run_id: str) -> None:
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
    if stopped is not None:
        note(f"  stopped: {stopped.reason}; the best checkpoint so far is used")
        set_tags(settings, run_id, {STOPPED_TAG: str(stopped.reason)})


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
