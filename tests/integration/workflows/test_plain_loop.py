"""A torch loop of one's own under ``steelyard run``: metered to its end, whatever that is."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tests.spooled import spooled

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import registry
from steelyard.cli.app import run as steelyard
from steelyard.domain.errors import InvalidInput, Refused
from steelyard.domain.metering import ResourceEnd, RunAttempt, SupplyWindow, UsageWindow
from steelyard.settings import Settings
from steelyard_workflows.user_code.running import Finished, default_devices, run
from steelyard_workflows.user_code.session import Session

pytestmark = [
    pytest.mark.integration,
    # MLflow warns of a type hint of its own when it is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

EXAMPLE = Path(__file__).parents[3] / "examples" / "own-loop" / "loop.py"
START = """
import os, signal, sys
import torch
import steelyard_workflows as steelyard
network = torch.nn.Linear(4, 3)
for step in range(5):
    torch.nn.init.constant_(network.bias, step)
    steelyard.report(step=step, loss=1 / (step + 1), flop=2**60, items=2)
    steelyard.checkpoint(network, torch.zeros(8, 4))
"""
ENDS = {
    "clean": "",
    "raises": "raise RuntimeError('my own fault')",
    "exits": "sys.exit(3)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "stopped": "os.kill(os.getppid(), signal.SIGTERM); signal.pause()",
    "unsuitable": "network.forward = lambda rows: rows.tolist()",
}


@pytest.fixture(scope="module")
def home(new_home: Callable[[Path], Path]) -> Iterator[Settings]:
    """A home of our own: SQLite MLflow, artefacts, spool."""
    folder = new_home(Path(tempfile.mkdtemp(prefix="syp-")))
    yield Settings(home=folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def script(tmp_path: Path, home: Settings) -> Callable[..., Finished]:
    """Runs a program under ``steelyard run``."""

    def start(text: str, model: str = "loop", settings: Settings = home) -> Finished:
        file = tmp_path / "own.py"
        file.write_text(text, encoding="utf-8")
        session = Session(model, team="vision", owner="ada")
        return run([sys.executable, str(file)], session, settings, dict(os.environ), 2)

    return start


def runs(settings: Settings, model: str) -> list[Run]:
    """The model's runs, newest first."""
    client = MlflowClient(settings.registry_uri)
    experiment = client.get_experiment_by_name(f"steelyard/{model}")
    assert experiment is not None
    found: list[Run] = list(client.search_runs([experiment.experiment_id]))
    return found


def booked(settings: Settings, run_id: str) -> list[Any]:
    """What waits in the spool about one run."""
    facts: list[Any] = spooled(settings, object)
    return [f for f in facts if run_id in f"{getattr(f, 'run_id', '')} {resource_of(f)}"]


def resource_of(fact: Any) -> str:
    """Which resource a fact is about."""
    return str(getattr(fact, "resource_id", ""))


def test_three_lines_make_a_loop_a_version_with_its_cost(home: Settings) -> None:
    """The example: best epoch, evidence and envelope of its rows, FLOPs, lineage, cost."""
    model = "digits-loop"
    here = Settings(home=home.home / "example")
    before = dict(os.environ)
    os.environ["STEELYARD_HOME"] = str(here.home)
    try:
        assert steelyard(["run", "--model", model, "--", sys.executable, str(EXAMPLE)]) == 0
    finally:
        os.environ.clear()
        os.environ.update(before)
    (version,) = registry(here).versions(model)
    (tracked,) = runs(here, model)
    assert version.run_id == tracked.info.run_id and tracked.info.status == "FINISHED"
    assert version.evidence is not None and version.evidence.accuracy > 0.85
    assert version.evidence.examples == 360
    assert version.flops is not None and version.flops.forward and not version.flops.train_step
    assert version.parameters == 17_258
    assert version.envelope is not None
    assert (version.envelope.rows, version.envelope.judged) == (1077, 360)
    assert version.envelope.inputs[0].low == (0.0,) and version.envelope.inputs[0].high == (1.0,)
    assert version.signature.inputs[0].shape == (-1, 1, 8, 8)
    metrics = tracked.data.metrics
    assert metrics["epoch"] == 8 and metrics["loss"] < 1
    assert metrics["ledger/cost_usd"] > 0
    history = MlflowClient(here.registry_uri).get_metric_history(version.run_id, "loss")
    assert [point.step for point in history] == list(range(1, 9))
    cost = Platform(here).runs.cost(model, version.run_id)
    assert cost is not None and (cost.cost.device_us or 0) > 0
    assert not list(here.checkpoint_dir.glob("script-*"))


@pytest.mark.parametrize(
    ("end", "code", "outcome", "status"),
    [
        ("raises", 1, "failed", "FAILED"),
        ("exits", 3, "failed", "FAILED"),
        ("killed", 137, "failed", "FAILED"),
        ("stopped", 143, "cancelled", "KILLED"),
    ],
)
def test_a_loop_that_ends_badly_is_booked_to_its_end(
    home: Settings, script: Callable[..., Finished], end: str, code: int, outcome: str, status: str
) -> None:
    """From the start of the process, with its CPU time; its own exit code; nothing registered."""
    done = script(START + ENDS[end])
    assert (done.code, done.version) == (code, None)
    tracked = runs(home, "loop")[0]
    assert tracked.info.status == status
    assert tracked.data.metrics["loss"] == 0.2
    assert tracked.data.params["team"] == "vision" and tracked.data.params["owner"] == "ada"
    facts = booked(home, tracked.info.run_id)
    (attempt,) = [fact for fact in facts if isinstance(fact, RunAttempt)]
    assert attempt.outcome == outcome and attempt.ended_us is not None
    supply = [fact for fact in facts if isinstance(fact, SupplyWindow)]
    usage = [fact for fact in facts if isinstance(fact, UsageWindow)]
    assert sum(s.reserved_us for s in supply) == 2 * (attempt.ended_us - attempt.started_us)
    assert sum(s.cpu_us or 0 for s in supply) > 0
    assert sum(u.items for u in usage) == 10
    assert sum(u.flop or 0 for u in usage) == 5 * 2**60
    assert len([fact for fact in facts if isinstance(fact, ResourceEnd)]) == 1
    assert "checkpoints" in [a.path for a in MlflowClient(home.registry_uri).list_artifacts(
        tracked.info.run_id)]  # fmt: skip


def test_without_test_rows_a_version_has_no_evidence_and_takes_no_traffic(
    home: Settings, script: Callable[..., Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is registered, and a deployment of it is refused: nothing is known of its quality."""
    version = script(START + ENDS["clean"], "unjudged").version
    assert version is not None and version.evidence is None
    assert "no evidence and takes no traffic" in capsys.readouterr().err
    platform = Platform(home)
    with pytest.raises(Refused, match="no measured evidence"):
        platform.rollouts.deploy("unjudged", 1, "ada")
    platform.engine.dispose()


def test_a_network_that_cannot_be_exported_fails_the_run_and_keeps_its_weights(
    home: Settings, script: Callable[..., Finished]
) -> None:
    """The loop itself ended well: what is wrong is said, not hidden behind its exit code."""
    with pytest.raises(Refused, match="ended well, and what it kept is no version"):
        script(START + ENDS["unsuitable"], "unsuitable")
    (tracked,) = runs(home, "unsuitable")
    assert tracked.info.status == "FAILED"
    assert registry(home).models().count("unsuitable") == 0


def test_a_script_that_trains_nothing_is_told_so(
    home: Settings, script: Callable[..., Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is made for it; its exit code is its own."""
    assert script("import sys; sys.exit(7)", "idle") == Finished(7, None)
    assert "nothing was trained" in capsys.readouterr().err
    assert runs(home, "idle") == []


def test_what_could_not_be_booked_is_not_started(
    tmp_path: Path, script: Callable[..., Finished]
) -> None:
    """The spool is where everything that is measured goes first."""
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    settings.spool_dir.touch()
    with pytest.raises(Refused, match="cannot be written to"):
        script(f"open({str(tmp_path / 'started')!r}, 'w')", settings=settings)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("command", "session", "expected"),
    [
        (["no-such-program"], Session("loop"), "no-such-program cannot be started"),
        (["true"], Session("Loop!"), "whose run this is"),
        (["true"], Session("loop", team="a b"), "whose run this is"),
    ],
)
def test_a_command_that_cannot_be_run_is_named(
    home: Settings, command: list[str], session: Session, expected: str
) -> None:
    """Before anything is started."""
    with pytest.raises(InvalidInput, match=expected):
        run(command, session, home, dict(os.environ))


def test_steelyard_itself_is_not_run_twice_over(capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands keep their own books."""
    assert steelyard(["run", "--model", "loop", "--", "steelyard", "train", "digits"]) == 2
    assert "keeps its own books" in capsys.readouterr().err


def test_a_loop_reserves_the_cpus_that_it_may_use(home: Settings) -> None:
    """Unless the declared device is another one, of which a process uses one."""
    assert default_devices(home) == len(os.sched_getaffinity(0))
    assert default_devices(Settings(home=home.home, device_model="h100")) == 1
