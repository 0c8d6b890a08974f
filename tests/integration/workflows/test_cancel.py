"""Ctrl-C in the middle of ``steelyard train``: nothing is left behind, the cost is booked."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from steelyard.bootstrap.registry import registry
from steelyard.settings import Settings

from .conftest import environment

pytestmark = [pytest.mark.integration, pytest.mark.alone]

WORKFLOW = """
recipe: digits_cnn
train: {epochs: 1000}
early_stopping: {patience: 1000}
"""


@pytest.fixture
def home(new_home: Callable[[Path], Path]) -> Iterator[Path]:
    """A short path, because Ray puts sockets below it."""
    path = new_home(Path(tempfile.mkdtemp(prefix="syc-")))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_ctrl_c_leaves_nothing_behind(home: Path) -> None:
    """No process, no version; the run is KILLED, its attempt cancelled, the exit code 130."""
    file = home / "long.yaml"
    file.write_text(WORKFLOW, encoding="utf-8")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("steelyard"), "train", file],
        env=environment(home), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    watchdog = threading.Timer(240, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "epoch 2/" in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        rest = process.communicate()[1]
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 130, "".join(seen) + rest
    assert family and "Traceback" not in rest
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive, alive
    _assert_booked_and_not_registered(Settings(home=home))


def _assert_booked_and_not_registered(settings: Settings) -> None:
    from mlflow.tracking import MlflowClient

    assert registry(settings).models() == []
    client = MlflowClient(settings.registry_uri)
    experiment = client.get_experiment_by_name("steelyard/digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert float(run.data.metrics["ledger/cost_usd"]) > 0
    with closing(sqlite3.connect(settings.home / "ledger.db")) as ledger:
        attempts = ledger.execute("select run_id, outcome from run_attempt").fetchall()
        assert attempts == [(run.info.run_id, "cancelled")]
        resources = ledger.execute("select resource_id from resource").fetchall()
        assert resources == ledger.execute("select resource_id from resource_end").fetchall()
        assert len(resources) == 1
