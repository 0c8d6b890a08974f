"""What each Ray Train worker runs: steps, epochs, checkpoints, reports.

Imports neither MLflow nor the ledger's stores: a worker only computes and reports. What it
decides, all workers decide alike, from sums over all of them.
"""

import math
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from steelyard_workflows import recipe
from steelyard_workflows.data import Dataset
from steelyard_workflows.training import ending, optimizers, parallel, place, precision
from steelyard_workflows.training.ending import Ended
from steelyard_workflows.training.place import CHECKPOINT_FILE, Place, Sums
from steelyard_workflows.training.sampling import Plan
from steelyard_workflows.training.schedules import rate
from steelyard_workflows.training.stepping import Rows, Stepper, Verdict
from steelyard_workflows.training.stop import StopSign
from steelyard_workflows.training.stopping import observe, should_stop
from steelyard_workflows.training.validation import validate
from steelyard_workflows.workflow import Workflow

__all__ = ["CHECKPOINT_FILE", "train_worker"]

POINTS = 100
"""Steps of an epoch whose loss is reported; of more steps, every n-th."""


@dataclass
class Unpaid:
    """What this worker has computed since its last report: rows learned from, rows judged.

    A step that is computed twice, after a failure, is counted in both attempts.
    """

    learned: int = 0
    judged: int = 0


@dataclass
class Run:
    """One worker's side of the run."""

    workflow: Workflow
    stepper: Stepper
    validation: Rows
    plan: Plan
    rank: int
    world: int
    flops: tuple[int | None, int | None]
    stop: StopSign
    place: Place = field(default_factory=Place)
    unpaid: Unpaid = field(default_factory=Unpaid)
    points: list[list[float]] = field(default_factory=list)
    stopped: bool = False

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run, when nothing ends it early."""
        planned = self.workflow.train.epochs * self.plan.steps
        return min(self.workflow.train.steps or planned, planned)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to learn."""
        position, rule = self.place.position, self.workflow.early_stopping
        done = position.epoch > self.workflow.train.epochs or position.step >= self.total
        return done or self.stopped or should_stop(self.place.progress, rule)


def train_worker(config: dict[str, Any]) -> None:
    """Train until the steps or the patience run out; continue from a checkpoint if there is one.

    ``config``: ``workflow`` as a dictionary, the ``dataset``, ``forward`` and ``train_step`` FLOPs
    of one item or None, ``stop_file`` that asks for an end when it appears. Every report carries
    the worker's items and FLOPs since the one before.
    """
    workflow = Workflow.model_validate(config["workflow"])
    torch.set_num_threads(workflow.scaling.cpus_per_worker)
    run = None
    try:
        run = _set_up(workflow, config)
        while not run.over:
            _epoch(run)
    except Ended as end:
        ray.train.report({"kind": end.kind, "reason": end.reason, **_work(run)})
    except RuntimeError as error:
        if not (workflow.train.compile and isinstance(error, parallel.compile_error())):
            raise
        reason = f"train.compile: {str(error).strip().splitlines()[0]}; set it to false"
        ray.train.report({"kind": "refused", "reason": reason, **_work(run)})


def _set_up(workflow: Workflow, config: dict[str, Any]) -> Run:
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank, world = context.get_world_rank(), context.get_world_size()
    precision.require(workflow.train.precision, device, world)
    made, train, dataset = recipe.of(workflow), workflow.train, config["dataset"]
    assert isinstance(dataset, Dataset)
    strategy, network = workflow.scaling.strategy, made.build(workflow)
    shared = parallel.share(network, strategy, device, world, compiled=train.compile)
    optimizer = optimizers.make(train, shared.network.parameters())
    rows = Rows(dataset.train, device)
    run = Run(
        workflow,
        Stepper(shared, optimizer, made.loss, rows, train, world, device),
        Rows(dataset.validation, device),
        Plan(train.seed, len(rows), train.batch_size, world, train.accumulate),
        rank,
        world,
        (config["forward"], config["train_step"]),
        StopSign(config.get("stop_file") if rank == 0 else None),
    )
    _resume(run)
    return run


def _resume(run: Run) -> None:
    """Draw as the seed says, or go on as the last checkpoint says."""
    place.seed(run.workflow.train.seed, run.rank)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        run.place, weights = place.load(Path(folder))
        run.stepper.shared.load(run.stepper.optimizer, weights)
        place.restore_random(Path(folder), run.rank)


def _epoch(run: Run) -> None:
    """The rest of an epoch, its validation, its report."""
    every = run.workflow.checkpoints.every_steps
    run.stepper.shared.network.train()
    began, known = time.perf_counter(), run.place.sums.rows
    while run.place.position.batch < run.plan.batches:
        verdict = _step(run)
        run.stopped = verdict.stop
        position = run.place.position
        if run.stopped or position.step >= run.total or position.batch == run.plan.batches:
            break
        if every is not None and position.step % every == 0:
            _report_checkpoint(run)
    speed = (run.place.sums.rows - known) / (time.perf_counter() - began)
    _judge(run, speed)


def _step(run: Run) -> Verdict:
    position = run.place.position
    batches = run.plan.step_from(position.epoch, position.batch, run.rank)
    now = rate(run.workflow.train, position.step, run.total)
    verdict = run.stepper.step(batches, now, run.stop.seen())
    after = position.after(len(batches))
    rows = sum(len(batch) for batch in batches)
    run.unpaid.learned += rows
    if not verdict.finite:
        raise ending.diverged("training loss", verdict.loss, after.epoch, after.step)
    sums = run.place.sums.plus(verdict.loss, rows * run.world)
    run.place = replace(run.place, position=after, sums=sums)
    if after.step % -(-run.plan.steps // POINTS) == 0:
        run.points.append([after.step, verdict.loss, now])
    return verdict


def _judge(run: Run, speed: float) -> None:
    """Validation, the report of the epoch, and a checkpoint when one is due."""
    stepper, workflow = run.stepper, run.workflow
    network, at, sums = stepper.shared.network, run.place.position, run.place.sums
    if run.world > 1:
        parallel.send_buffers(network)
    loss, accuracy, judged = validate(
        network, stepper.loss, run.validation, 4 * run.plan.size, run.rank, run.world,
        workflow.train.precision, stepper.device,
    )  # fmt: skip
    run.unpaid.judged += judged
    if not math.isfinite(loss):
        raise ending.diverged("validation loss", loss, at.epoch, at.step)
    metrics: dict[str, Any] = {
        "kind": "epoch",
        "epoch": at.epoch,
        "step": at.step,
        "train_loss": sums.loss / sums.rows,
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "learning_rate": rate(workflow.train, max(0, at.step - 1), run.total),
        "items_per_s": speed,
        "stopped": run.stop.reason if run.stopped else None,
    }
    _move_on(run, metrics[workflow.early_stopping.metric])
    with_checkpoint = run.over or at.epoch % workflow.checkpoints.every == 0
    _report(run, metrics, with_checkpoint=with_checkpoint)


def _move_on(run: Run, watched: float) -> None:
    """To the next epoch, unless this one was broken off."""
    now = run.place
    progress = observe(now.progress, watched, run.workflow.early_stopping)
    if now.position.batch == run.plan.batches:
        run.place = Place(now.position.next_epoch(), Sums(), progress)
    else:
        run.place = replace(now, progress=progress)


def _report_checkpoint(run: Run) -> None:
    """A checkpoint in the middle of an epoch: to continue from, never the best."""
    at, watched = run.place.position, run.workflow.early_stopping.metric
    # Ray orders checkpoints by the watched metric, and "no number" comes last.
    metrics = {"kind": "checkpoint", "epoch": at.epoch, "step": at.step, watched: math.nan}
    _report(run, metrics, with_checkpoint=True)


def _report(run: Run, metrics: dict[str, Any], *, with_checkpoint: bool) -> None:
    full = {**metrics, "points": run.points, **_work(run)}
    run.unpaid, run.points = Unpaid(), []
    if not with_checkpoint:
        ray.train.report(full)
        return
    weights = run.stepper.shared.state(run.stepper.optimizer)
    with tempfile.TemporaryDirectory() as folder:
        place.save(Path(folder), run.place, weights, run.rank)
        ray.train.report(full, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _work(run: Run | None) -> dict[str, int | None]:
    """Items and FLOPs that this worker has not reported yet."""
    if run is None:
        return {"items": 0, "flop": 0}
    (forward, step), unpaid = run.flops, run.unpaid
    if forward is None or step is None:
        return {"items": unpaid.learned, "flop": None}
    return {"items": unpaid.learned, "flop": unpaid.learned * step + unpaid.judged * forward}
