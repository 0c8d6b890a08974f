"""A recipe of the user's own that takes milliseconds, and a way to run it on the shared Ray."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.free_ports import free_ports

from steelyard.settings import Settings
from steelyard_workflows.environment import prepare
from steelyard_workflows.workflow import Workflow
from steelyard_workflows.workflow_file import parse

TINY = '''
"""A network with drop-out and batch normalisation that can be told when to fail."""

import os
import signal
import time

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.workflow import Scaling, Train, Workflow


class Tiny(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.options, self.calls = options, 0
        self.blocks = nn.ModuleList([
            nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)),
            nn.Sequential(nn.Linear(16, 16), nn.ReLU()),
        ])
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        hidden = x
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)


def before_forward(network, inputs):
    """What goes wrong, and when: ``kill_at`` and ``nan_at`` count this worker's batches."""
    options = network.options
    if not network.training or not dist.is_initialized():
        return None
    network.calls += 1
    time.sleep(options.get("slow_s", 0))
    mine = options.get("rank", 0) == dist.get_rank()
    if mine and network.calls == options.get("kill_at"):
        try:
            os.close(os.open(options["killed"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return None
        os.kill(os.getpid(), signal.SIGKILL)
    if mine and network.calls == options.get("nan_at"):
        return (inputs[0] * float("nan"),)
    return None


def network(workflow):
    made = Tiny(workflow.data.options)
    if workflow.data.options:
        made.register_forward_pre_hook(before_forward)
    return made


def data(workflow):
    draw = np.random.default_rng(7)
    centres = draw.normal(size=(3, 8))
    labels = draw.integers(0, 3, 190)
    inputs = (centres[labels] + draw.normal(size=(190, 8))).astype(np.float32)

    def take(start, end):
        rows = np.arange(start, end)
        return Split(inputs[rows], labels[rows].astype(np.int64), rows)

    return Dataset(take(0, 121), take(121, 152), take(152, 190))


def recipe():
    train = Train(epochs=3, batch_size=12, learning_rate=0.01, optimizer="adamw",
                  weight_decay=0.01, schedule="cosine", warmup_steps=4, clip_norm=1.0, seed=1)
    return Recipe(Workflow(model="tiny", recipe="tiny:recipe", train=train,
                           scaling=Scaling(workers=2)), data, network)
'''


@dataclass(frozen=True)
class Trained:
    """A run that has ended well: its best weights, its journal."""

    run_id: str
    weights: Mapping[str, Any]
    journal: list[Any]

    @property
    def epochs(self) -> dict[int, dict[str, float]]:
        """The metrics of each epoch as they were last reported, without those of the clock."""
        return {
            int(e.metrics["epoch"]): {k: v for k, v in e.metrics.items() if k != "items_per_s"}
            for e in self.journal
            if e.event == "report"
        }

    @property
    def outcomes(self) -> list[str]:
        """How the attempts ended."""
        return [e.outcome for e in self.journal if e.event == "attempt_ended"]


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes a folder a home whose MLflow database is there, without a run: that takes seconds."""
    from mlflow.tracking import MlflowClient

    empty = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{empty}").search_experiments()

    def make(home: Path) -> Path:
        home.mkdir(exist_ok=True)
        shutil.copy(empty, home)
        return home

    return make


@contextmanager
def importable(prefix: str) -> Iterator[Path]:
    """A folder whose modules can be imported; a short path, because Ray puts sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    """This process's, without what other tests set for their Ray; for a platform of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STEELYARD_"))}
    (port,) = free_ports(1)
    return {**kept, "STEELYARD_HOME": str(home), "STEELYARD_RAY_PORT": str(port),
            "STEELYARD_RAY_CPUS": "3"}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_folder() -> Iterator[Path]:
    """The folder with the user's code, which is not part of this repository."""
    with importable("syt-tiny-") as folder:
        (folder / "tiny.py").write_text(TINY, encoding="utf-8")
        yield folder


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """A home of our own, without Ray: SQLite MLflow, artefacts, spool."""
    folder = Path(tempfile.mkdtemp(prefix="sys-"))
    made = Settings(home=folder)
    prepare(made)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def home(ray_cluster: Settings, new_home: Callable[[Path], Path]) -> Iterator[Settings]:
    """The shared Ray, a home of our own: SQLite MLflow, artefacts, spool."""
    folder = new_home(Path(tempfile.mkdtemp(prefix="syw-")))
    own = ray_cluster.model_copy(update={"home": folder})
    prepare(own)
    yield own
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Callable[..., Workflow]:
    """The tiny recipe's workflow with some lines of YAML over it."""
    return lambda text="": parse(f"recipe: tiny:recipe\n{text}")


@pytest.fixture(scope="module")
def train(
    home: Settings, tiny: Callable[..., Workflow], tiny_folder: Path
) -> Iterator[Callable[[Workflow], Trained]]:
    """Trains a workflow as ``steelyard train`` does, up to the best weights; one connection."""
    from steelyard_workflows.cluster import connected

    place = str(tiny_folder)

    def loop(config: dict[str, Any]) -> None:
        import sys

        from steelyard_workflows.training.loop import train_worker

        sys.path.insert(0, place)
        train_worker(config)

    def run(workflow: Workflow) -> Trained:
        from steelyard_workflows.booking import journal
        from steelyard_workflows.loading import loaded
        from steelyard_workflows.tracking.run import tracked
        from steelyard_workflows.training.fit import fit

        made = loaded(workflow)
        with tracked(home, workflow, "test", {}) as run_id:
            fit(workflow, made.profile, home, run_id, made.network, made.dataset, loop)
        entries = journal.read(home.checkpoint_dir / run_id / "journal.jsonl")
        return Trained(run_id, made.network.state_dict(), entries)

    with connected(home, tiny()):
        yield run
