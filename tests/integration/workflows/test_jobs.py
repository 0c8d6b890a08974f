"""Training on a Ray cluster of three nodes from a folder far from this repository.

Each node has a temporary folder of its own, as machines have: code comes by upload alone.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from steelyard.bootstrap.registry import registry
from steelyard.settings import Settings

pytestmark = [pytest.mark.alone, pytest.mark.integration, pytest.mark.timeout(900)]

STEELYARD = Path(sys.executable).with_name("steelyard")
LIMIT_S = 400
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps the nodes on the loopback interface."""
RECIPE = '''
"""Is a point above the diagonal?"""

import numpy as np
from torch import nn

from steelyard_workflows import Dataset, Recipe, Scaling, Train, Workflow
from steelyard_workflows.data import Split


def split(first, rows):
    points = np.random.default_rng(first).normal(size=(rows, 2)).astype(np.float32)
    labels = (points[:, 1] > points[:, 0]).astype(np.int64)
    return Split(points, labels, np.arange(first, first + rows))


def data(workflow):
    return Dataset(split(0, 512), split(1000, 128), split(2000, 128))


def made():
    train = Train(epochs=3, batch_size=32, learning_rate=0.05)
    workflow = Workflow(model="diagonal", recipe="diagonal:made", train=train,
                        scaling=Scaling(workers=2))
    return Recipe(workflow, data, lambda _: nn.Linear(2, 2))
'''
WORKFLOW = "recipe: diagonal:made\nteam: vision\nowner: ada\n"
CLUSTER = """
import socket, sys
from pathlib import Path
from ray._common.utils import get_default_ray_temp_dir
from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster

def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

def folder(name):
    path = Path(sys.argv[1]) / name
    path.mkdir()
    return str(path)

head = folder("h")
Path(get_default_ray_temp_dir()).mkdir(exist_ok=True)  # Cluster writes its address there, too
cluster = Cluster(True, head_node_args={
    "num_cpus": 1, "include_dashboard": True, "dashboard_host": "127.0.0.1",
    "dashboard_port": port(), "dashboard_agent_listen_port": port(), "temp_dir": head})
write_ray_address(cluster.address, head)  # as `ray start` does
for name in ("a", "b"):
    cluster.add_node(num_cpus=1, temp_dir=folder(name))
print(cluster.address, "http://" + cluster.head_node.webui_url, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """A cluster, its home, and somebody with a folder of their own who submits to it."""

    root: Path
    ray: str = ""
    address: str = ""
    settings: Settings = field(default_factory=Settings)

    @property
    def user(self) -> Path:
        """The user's folder."""
        return self.root / "u"

    def environment(self, *, token: bool = True) -> dict[str, str]:
        """The user's: a home of their own, and the cluster's token."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STEELYARD_"))}
        kept |= {"STEELYARD_HOME": str(self.root / "laptop"), "RAY_AUTH_MODE": "disabled"}
        secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.root / "token")}
        return kept | (secret if token else {})

    def steelyard(self, *words: str, token: bool = True) -> Said:
        """Run a command in the user's folder, about jobs of the cluster."""
        return self.type([*words, "--address", self.address], self.environment(token=token))

    def here(self, *words: str) -> Said:
        """Run a command that stays here and has its workers on the cluster."""
        return self.type(words, self.environment() | LOOPBACK | {"STEELYARD_RAY_ADDRESS": self.ray})

    def type(self, words: Sequence[str], environment: dict[str, str]) -> Said:
        """Run a command in the user's folder."""
        done = subprocess.run(
            [STEELYARD, *words], cwd=self.user, timeout=LIMIT_S, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def sent(self) -> list[Path]:
        """All files that the nodes have."""
        return [path for node in "hab" for path in (self.root / node).rglob("*") if path.is_file()]

    def attempts(self) -> list[tuple[str, str]]:
        """Run and outcome of every attempt in the cluster's ledger."""
        with closing(sqlite3.connect(self.settings.home / "ledger.db")) as ledger:
            return ledger.execute("select run_id, outcome from run_attempt").fetchall()


@pytest.fixture(scope="module")
def place(new_home: Callable[[Path], Path]) -> Iterator[Place]:
    """A head without room for both workers, and two nodes; the cluster asks for its token."""
    root = Path(tempfile.mkdtemp(prefix="syj-"))
    made = Place(root, settings=Settings(home=new_home(root / "home")))
    made.user.mkdir()
    new_home(root / "laptop")
    (made.user / "diagonal.py").write_text(RECIPE, encoding="utf-8")
    (made.user / "train.yaml").write_text(WORKFLOW, encoding="utf-8")
    (made.user / ".env").write_text("PASSWORD=hidden-in-env\n", encoding="utf-8")
    (root / "token").write_text("f0" * 32, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=made.environment() | {
            "STEELYARD_HOME": str(made.settings.home),
            "PATH": f"{STEELYARD.parent}:{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",
            **LOOPBACK,
        },
        text=True, cwd="/",
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    found = next((line.split() for line in process.stdout if " http://" in line), ["", ""])
    made.ray, made.address = found
    try:
        assert made.address, "the cluster did not come up"
        yield made
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        _, alive = psutil.wait_procs(family, timeout=5)
        for one in alive:
            one.kill()
        shutil.rmtree(root, ignore_errors=True)


def test_a_submission_trains_a_version_and_is_there_to_come_back_to(place: Place) -> None:
    """The user's code trains on two nodes; the log can be had again from its start, exactly.

    The same submission starts nothing twice.
    """
    first = place.steelyard("train", "train.yaml", "--submission-id", "t1")
    assert first.code == 0, first.err
    job = re.findall(r"^Job (diagonal-\w+-t1)$", first.err, re.MULTILINE)[0]
    assert first.out.split() == [job, "SUCCEEDED"]
    assert "epoch 3/3" in first.err and "Registered diagonal/1" in first.err
    (version,) = registry(place.settings).versions("diagonal")
    assert place.attempts() == [(version.run_id, "ok")]

    (place.user / "notes.txt").write_text("something else is here now", encoding="utf-8")
    again = place.steelyard("train", "train.yaml", "--submission-id", "t1", "--json")
    assert again.code == 0 and "is there already" in again.err
    assert "not what it holds now" in again.err
    assert json.loads(again.out)["job"] == job
    assert len(registry(place.settings).versions("diagonal")) == 1

    attached = place.steelyard("jobs", "attach", job)
    assert attached.code == 0 and "epoch 1/3" in attached.err
    assert first.err.endswith(attached.err) and again.err.endswith(attached.err)
    (row,) = json.loads(place.steelyard("jobs", "list", "--json").out)["jobs"]
    shown = [row[key] for key in ("job", "state", "exit_code", "model", "team", "owner")]
    assert shown == [job, "SUCCEEDED", 0, "diagonal", "vision", "ada"]


@pytest.mark.nightly
def test_a_job_outlives_its_client_and_a_stopped_one_is_booked(place: Place) -> None:
    """Ctrl-C leaves it alone and says how to come back; stop ends it as cancelled, at a cost."""
    text = WORKFLOW + "train: {epochs: 1000}\nearly_stopping: {patience: 1000}\nmodel: long\n"
    (place.user / "long.yaml").write_text(text, encoding="utf-8")
    client = subprocess.Popen(
        [STEELYARD, "train", "long.yaml", "--address", place.address], cwd=place.user,
        env=place.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    watchdog = threading.Timer(LIMIT_S, client.kill)
    watchdog.start()
    try:
        assert client.stderr is not None
        seen = ""
        for line in client.stderr:
            seen += line
            if "epoch 2/" in line:
                break
        client.send_signal(signal.SIGINT)
        rest = client.communicate()[1]
    finally:
        watchdog.cancel()
        client.kill()
    job = re.findall(r"^Job (\S+)$", seen, re.MULTILINE)[0]
    assert client.returncode == 130, seen + rest
    assert f"steelyard jobs attach {job} --address {place.address}" in rest
    running = json.loads(place.steelyard("jobs", "logs", job, "--json").out)
    assert running["state"] == "RUNNING" and "epoch 1/1000" in running["log"]

    stopped = place.steelyard("jobs", "stop", job)
    assert (stopped.code, stopped.out.split()) == (0, [job, "STOPPED"]), stopped.err
    assert place.steelyard("jobs", "attach", job).code == 130
    assert registry(place.settings).models() == ["diagonal"]
    assert [outcome for _, outcome in place.attempts()] == ["ok", "cancelled"]


@pytest.mark.nightly
def test_a_command_that_stays_here_sends_the_code_to_its_workers(place: Place) -> None:
    """A worker on each node imports it from the upload; what is not code stays here."""
    (place.user / ".git").mkdir()
    (place.user / ".git" / "history").write_bytes(b"of years")
    text = WORKFLOW + "scaling: {workers: 3}\n"
    (place.user / "three.yaml").write_text(text, encoding="utf-8")
    said = place.here("train", "three.yaml")
    assert said.code == 0, said.err
    assert f"Ray: {place.ray}" in said.err and "Registered diagonal/1" in said.out
    (version,) = registry(Settings(home=place.root / "laptop")).versions("diagonal")
    assert version.evidence is not None and version.evidence.accuracy > 0.9
    assert not any(path.name == "history" for path in place.sent())


def test_what_cannot_end_well_is_told(place: Place) -> None:
    """Before anything is sent where it can be known; else with the job's own exit code.

    Without the token nothing is told at all, and no secret of the folder has travelled.
    """
    (place.user / "wide.yaml").write_text(WORKFLOW + "scaling: {workers: 9}\n", encoding="utf-8")
    wide = place.steelyard("train", "wide.yaml")
    assert wide.code == 1 and "has room for 3: 3 nodes, 3 CPUs" in wide.err

    (place.user / "empty.py").write_text(
        "from dataclasses import replace\n\nfrom diagonal import data, made\n\n\n"
        "def rows(workflow):\n    found = data(workflow)\n"
        "    found.train.inputs[0] = float('nan')\n    return found\n\n\n"
        "def bad():\n    return replace(made(), data=rows)\n",
        encoding="utf-8",
    )
    (place.user / "empty.yaml").write_text("recipe: empty:bad\n", encoding="utf-8")
    bad = place.steelyard("train", "empty.yaml")
    assert bad.code == 2 and bad.out.endswith("FAILED\n"), bad.err
    assert "NaN" in bad.err or "nan" in bad.err

    refused = place.steelyard("jobs", "list", token=False)
    assert refused.code == 1 and "RAY_AUTH_TOKEN_PATH" in refused.err and not refused.out
    sent = place.sent()
    assert any(path.name == "diagonal.py" for path in sent)
    assert not any(path.name == ".env" for path in sent)
