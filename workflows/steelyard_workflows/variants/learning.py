"""Fine-tuning inside this process, on one thread: a variant's epochs, booked one by one.

The same seed learns the same weights: rows are dealt by a pure function, and one thread adds up
in one order.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from steelyard.cli.output import note
from steelyard.domain.compute import computes_in
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows.data import Split
from steelyard_workflows.training import optimizers, schedules
from steelyard_workflows.training.sampling import Plan
from steelyard_workflows.variants.kind import Bench, Option, Options, Source
from steelyard_workflows.workflow import Train

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits, labels and the numbers of the rows to a loss."""
BATCH = 256
SEED = Option(0, "shuffles the rows and draws dropout", 0, 2**31 - 1)
CONTROL = Option(True, "measure what the same epochs do without this step")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned: how many epochs from which rate, and what is done after each step."""

    name: str
    epochs: int
    learning_rate: float
    seed: int
    after_step: Callable[[nn.Module], None] = lambda _: None


def lesson(name: str, source: Source, options: Options) -> Lesson:
    """The lesson that a kind's options ask for; a rate of 0 is half of the workflow's."""
    rate = float(options["learning_rate"]) or source.workflow.train.learning_rate / 2
    return Lesson(name, int(options["epochs"]), rate, int(options["seed"]))


def learn(
    network: nn.Module, source: Source, what: Lesson, objective: Objective,
    profile: FlopsProfile, bench: Bench,
) -> None:  # fmt: skip
    """Train a network in place, with the workflow's optimiser and batch; the rate falls to 0.

    Raises:
        Refused: the loss is no number any more.
    """
    train = source.workflow.train.model_copy(
        update={"epochs": max(1, what.epochs), "learning_rate": what.learning_rate,
                "schedule": "cosine", "warmup_steps": 0}
    )  # fmt: skip
    rows = source.dataset.train
    plan = Plan(what.seed, len(rows), min(train.batch_size, len(rows)))
    optimizer = optimizers.make(train, network.parameters())
    network.train()
    with _repeatable(what.seed):
        for epoch in range(1, what.epochs + 1):
            with bench.watch.measure("compress") as work:
                loss = _epoch(network, rows, (plan, epoch), (train, what, optimizer), objective)
                work.items, work.datatype = plan.share, computes_in(profile)
                step = profile.train_step
                work.flop = None if step is None else step * plan.share
            note(f"  {what.name}: epoch {epoch} of {what.epochs}, loss {loss:.4f}")
    network.eval()


def _epoch(
    network: nn.Module, rows: Split, place: tuple[Plan, int],
    how: tuple[Train, Lesson, torch.optim.Optimizer], objective: Objective,
) -> float:  # fmt: skip
    (plan, epoch), (train, what, optimizer) = place, how
    total = 0.0
    for batch in range(plan.batches):
        step = (epoch - 1) * plan.batches + batch
        for group in optimizer.param_groups:
            group["lr"] = schedules.rate(train, step, what.epochs * plan.batches)
        own = plan.rows_of(epoch, batch, 0)
        inputs, labels = torch.from_numpy(rows.inputs)[own], torch.from_numpy(rows.labels)[own]
        loss = objective(network(inputs), labels, own)
        if not torch.isfinite(loss):
            raise Refused(
                f"{what.name} diverged in epoch {epoch}: the loss is {loss.item()}.",
                "Use a smaller learning_rate; nothing was registered.",
            )
        optimizer.zero_grad()
        loss.backward()
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        optimizer.step()
        what.after_step(network)
        total += loss.item() * len(own)
    return total / plan.share


def accuracy(
    network: nn.Module, split: Split, profile: FlopsProfile | None, bench: Bench
) -> float:  # fmt: skip
    """Share of right labels of a split, booked as evaluation."""
    right = torch.zeros((), dtype=torch.int64)
    with bench.watch.measure("evaluate") as work, torch.no_grad():
        for own in torch.arange(len(split)).split(BATCH):
            answers = network.eval()(torch.from_numpy(split.inputs[own.numpy()])).argmax(-1)
            right += (answers == torch.from_numpy(split.labels[own.numpy()])).sum()
        work.count(len(split), profile)
    return right.item() / split.labels.size


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """One thread and our own random numbers; both as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
