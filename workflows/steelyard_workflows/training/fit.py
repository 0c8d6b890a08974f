"""Training on the connected Ray cluster: attempts, checkpoints, the best of them."""

from collections.abc import Callable
from typing import Any

from ray.exceptions import RayActorError
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from torch import nn

from steelyard.cli.output import note
from steelyard.domain.compute import computes_in
from steelyard.domain.errors import Refused
from steelyard.domain.metering import Outcome
from steelyard.domain.model_version import FlopsProfile
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.attempts import close_open
from steelyard_workflows.booking.journal import Entry, Follower
from steelyard_workflows.booking.metering import Charge, charge_for
from steelyard_workflows.data import Dataset
from steelyard_workflows.interrupts import restored
from steelyard_workflows.tracking.run_page import log_metrics, log_points
from steelyard_workflows.training.callbacks import LedgerCallback
from steelyard_workflows.training.cancel import CANCEL_FILE, CancelCallback, cancelled
from steelyard_workflows.training.loop import train_worker
from steelyard_workflows.training.outcome import Fitted, failed, load_best, lost, tell_end
from steelyard_workflows.training.spending import Guard, Spending, rates_for
from steelyard_workflows.training.stop import STOP_FILE
from steelyard_workflows.training.trainer import FixedClusterTrainer, RowsTrainer
from steelyard_workflows.workflow import Workflow

Loop = Callable[[dict[str, Any]], None]


def fit(
    workflow: Workflow, profile: FlopsProfile, settings: Settings, run_id: str,
    network: nn.Module, dataset: Dataset, loop: Loop = train_worker,
    heard: Callable[[Entry], None] | None = None,
) -> Fitted:  # fmt: skip
    """Train on the connected Ray cluster and load the best checkpoint into ``network``.

    ``heard`` is told each line of the journal, from a thread.

    Raises:
        Refused: the workflow asks for what cannot be done or counted here.
        SteelyardError: the run failed too often, or its loss is not a number any more.
        KeyboardInterrupt: Ctrl-C, or the sign to cancel.
    """
    charge = charge_of(workflow, settings, run_id, dataset)
    folder = settings.checkpoint_dir / run_id
    path = folder / journal.FILE
    trainer = _trainer(workflow, profile, settings, charge, dataset, loop)

    def follow(entry: Entry) -> None:
        _show(entry, workflow, settings, run_id)
        if heard is not None:
            heard(entry)

    outcome: Outcome = "failed"
    try:
        with restored(), Follower(path, follow):
            result = trainer.fit()
    except TrainingFailedError as error:
        raise failed(run_id, error, path) from error
    except (KeyboardInterrupt, SystemExit) as stop:
        # Ray Train answers Ctrl-C by aborting its controller and then leaving with SystemExit.
        outcome = "cancelled"
        raise KeyboardInterrupt from stop
    except RayActorError as error:
        if not cancelled(folder):
            raise lost(run_id, error) from error
        outcome = "cancelled"
        raise KeyboardInterrupt from error
    finally:
        close_open(settings, charge, path, outcome)
    stopped = tell_end(journal.read(path), settings, run_id)
    return load_best(result, workflow, network, stopped)


def _trainer(
    workflow: Workflow, profile: FlopsProfile, settings: Settings, charge: Charge,
    dataset: Dataset, loop: Loop,
) -> RowsTrainer:  # fmt: skip
    """Ray Train's trainer, with our callbacks in its controller."""
    folder = settings.checkpoint_dir / charge.run_id
    spending = Spending(charge, rates_for(settings, charge, workflow.limits))
    guard = Guard(workflow.limits, spending, folder)
    datatype = "bf16" if workflow.train.precision == "bf16" else computes_in(profile)
    ledger = LedgerCallback(settings, charge, folder / journal.FILE, datatype, guard)
    callbacks = [ledger, CancelCallback(folder / CANCEL_FILE)]
    make = RowsTrainer if settings.ray_address else FixedClusterTrainer
    return make(
        loop,
        train_loop_config={
            "workflow": workflow.model_dump(),
            "dataset": dataset,
            "forward": profile.forward,
            "train_step": profile.train_step,
            "stop_file": str(folder / STOP_FILE),
        },
        scaling_config=_scaling(workflow),
        run_config=_run_config(workflow, settings, charge.run_id, callbacks),
    )


def charge_of(workflow: Workflow, settings: Settings, run_id: str, dataset: Dataset) -> Charge:
    """Who pays for which devices: the GPUs where some are reserved, else the CPUs.

    Raises:
        Refused: a worker would get no row, or GPUs would be booked as CPUs.
    """
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
    workflow: Workflow, settings: Settings, run_id: str, callbacks: list[WorkerGroupCallback]
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
        callbacks=callbacks,  # type: ignore[arg-type]
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
