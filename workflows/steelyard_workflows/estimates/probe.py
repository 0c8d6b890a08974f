"""A short probe: how fast this machine takes real steps of a network, before anything was run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import torch

from steelyard.domain.estimate import Pace
from steelyard_workflows.loading import Loaded
from steelyard_workflows.training import optimizers
from steelyard_workflows.training.precision import autocast
from steelyard_workflows.workflow import Workflow

SECONDS = 2.0
LEAST_STEPS = 3


def probe(made: Loaded, workflow: Workflow) -> Pace | None:
    """The pace of one worker alone, in FLOPs or, where these are unknown, in rows a second.

    Real steps on real rows with the workflow's batch and precision, for ``SECONDS`` after one
    that warms up; the median step counts. It knows neither the exchange between workers nor what
    else runs on the machine. None where workers use GPUs and this machine has none.
    """
    scaling = workflow.scaling
    if scaling.gpus_per_worker and not torch.cuda.is_available():
        return None
    device = torch.device("cuda" if scaling.gpus_per_worker else "cpu")
    rows = min(max(1, workflow.train.batch_size // scaling.workers), len(made.dataset.train))
    with _undisturbed(scaling.cpus_per_worker):
        step_s = _step_s(made, workflow, rows, device)
    step, forward = made.profile.train_step, made.profile.forward
    work = rows * (1 if step is None or forward is None else step)
    return Pace(Fraction(work) / (Fraction(step_s) * scaling.cpus_per_worker))


def _step_s(made: Loaded, workflow: Workflow, rows: int, device: torch.device) -> float:
    network = made.recipe.build(workflow).to(device).train()
    optimizer = optimizers.make(workflow.train, network.parameters())
    inputs = torch.from_numpy(made.dataset.train.inputs[:rows]).to(device)
    labels = torch.from_numpy(made.dataset.train.labels[:rows]).to(device)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) <= LEAST_STEPS or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        with autocast(workflow.train.precision, device):
            loss = made.recipe.loss(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    steady = sorted(times[1:])
    return steady[len(steady) // 2]


@contextmanager
def _undisturbed(threads: int) -> Iterator[None]:
    """As many threads as a worker has, and afterwards the threads and random state of before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
