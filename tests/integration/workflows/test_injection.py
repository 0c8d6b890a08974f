"""An unchanged Ray Train script: what Ray promises us, and what the books get.

``ray.train.v2._internal.execution.callback`` is private: where these tests fail on another minor
version of Ray, compare its hooks with those that ``AttemptCallback`` overrides, and pin the old
version until they fit.
"""

import importlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tests.spooled import spooled

from steelyard.domain.errors import InvalidInput, Refused
from steelyard.domain.metering import Resource, RunAttempt, SupplyWindow, UsageWindow
from steelyard.settings import Settings
from steelyard_workflows.training.callbacks import AttemptCallback
from steelyard_workflows.user_code.injection import Injected
from steelyard_workflows.user_code.running import run
from steelyard_workflows.user_code.session import (
    CALLBACKS,
    INJECTED,
    MODEL,
    Session,
    from_environment,
)

from .conftest import importable

pytestmark = [
    pytest.mark.integration,
    # Ray Train sets Ray Data's own deprecated options when it makes a trainer.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
]

CHANGED = (
    "Ray's private callback interface is another one: compare "
    "ray.train.v2._internal.execution.callback with AttemptCallback, and pin ray==2.60.* until "
    "both fit."
)
RECORDER = """
import json, os
from ray.train.v2._internal.execution.callback import (
    ControllerCallback, ReportCallback, WorkerGroupCallback)

class Recorder(ControllerCallback, ReportCallback, WorkerGroupCallback):
    def __init__(self):
        self.path = os.environ["RECORDED"]
    def note(self, *words):
        with open(self.path, "a") as file:
            file.write(json.dumps(words) + "\\n")
    def after_controller_start(self, context):
        self.note("after_controller_start", context.scaling_config.num_workers,
                  sorted(context.train_loop_config))
    def before_worker_group_start(self, group):
        self.note("before_worker_group_start", group.num_workers, group.resources_per_worker)
    def after_worker_group_start(self, group):
        workers = [worker.metadata for worker in group.get_workers()]
        self.note("after_worker_group_start", len({w.pid for w in workers}),
                  all(w.node_id for w in workers))
    def after_report(self, training_report, metrics):
        self.note("after_report", metrics)
    def after_worker_group_poll_status(self, status):
        self.note("after_worker_group_poll_status")
    def before_controller_execute_failure_decision(self, decision):
        self.note("before_controller_execute_failure_decision")
    def after_worker_group_shutdown(self, context):
        self.note("after_worker_group_shutdown")
    def after_controller_finish(self, result):
        self.note("after_controller_finish", result.error is None)
"""
SCRIPT = """
import os, signal, sys
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

def loop(config):
    rank = ray.train.get_context().get_world_rank()
    for epoch in (1, 2):
        work = {"flop": 2**60, "items": 8} if config["says_work"] else {"text": "slow"}
        ray.train.report({"epoch": epoch, "loss": rank + epoch, **work})
        if rank == 1 and config["marker"]:
            try:
                os.close(os.open(config["marker"], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)

def fit(says_work, marker):
    DataParallelTrainer(
        loop, train_loop_config={"says_work": says_work, "marker": marker},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=sys.argv[1],
                             failure_config=FailureConfig(max_failures=1)),
    ).fit()

fit(True, sys.argv[1] + "/marker")
fit(False, None)
sys.exit(3)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of our own with a short path, whose modules workers can import."""
    with importable("syi-") as place:
        yield place


@pytest.fixture(scope="module")
def shared_ray(ray_cluster: Settings) -> Iterator[Settings]:
    """The shared Ray, left without what plain trainers start on it.

    Ray Train announces its demand to a detached actor, which keeps a head from stopping for half
    a minute; our own trainer does without (``FixedClusterTrainer``).
    """
    yield ray_cluster
    import ray

    with joined(ray_cluster), suppress(ValueError):  # nothing may have started it
        ray.kill(ray.get_actor("AutoscalingCoordinator", "AutoscalingCoordinator"))


@contextmanager
def joined(settings: Settings) -> Iterator[None]:
    """Connected with the shared Ray; a connection that other tests keep open stays."""
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(address=settings.local_ray_address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _facts(settings: Settings) -> list[Any]:
    return spooled(settings, object)


def _runs(settings: Settings) -> list[Run]:
    """The model's runs, oldest first."""
    client = MlflowClient(settings.registry_uri)
    experiment = client.get_experiment_by_name("steelyard/script")
    assert experiment is not None
    return list(reversed(client.search_runs([experiment.experiment_id])))


def test_rays_private_hooks_are_those_that_we_override() -> None:
    """The import, and the name and the parameters of each hook."""
    own = {name for name in vars(AttemptCallback) if name.startswith(("after_", "before_"))}
    own |= {"after_controller_start", "after_report"}
    module = importlib.import_module("ray.train.v2._internal.execution.callback")
    bases = (module.ControllerCallback, module.ReportCallback, module.WorkerGroupCallback)
    offered = {name for base in bases for name in dir(base)}
    assert own <= offered, f"{sorted(own - offered)} are gone. {CHANGED}"
    for name in own:
        hook = next(getattr(base, name) for base in bases if hasattr(base, name))
        ours = getattr(Injected, name)
        found = hook.__code__.co_varnames[: hook.__code__.co_argcount]
        assert ours.__code__.co_varnames[: ours.__code__.co_argcount] == found, f"{name}. {CHANGED}"


@pytest.mark.alone
def test_a_trainer_calls_the_class_that_the_environment_names(
    shared_ray: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order that booking relies on, with the attributes that it reads."""
    import json

    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from steelyard_workflows.interrupts import restored

    (folder / "recording.py").write_text(RECORDER, encoding="utf-8")
    # The controller cannot import from this test's folder.
    ray.cloudpickle.register_pickle_by_value(importlib.import_module("recording"))
    recorded = folder / "recorded"
    monkeypatch.setenv(CALLBACKS, "recording.Recorder")
    monkeypatch.setenv("RECORDED", str(recorded))
    with joined(shared_ray), restored():
        DataParallelTrainer(
            lambda config: ray.train.report({"lr": config["lr"]}),
            train_loop_config={"lr": 0.5},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(folder)),
        ).fit()
    seen = [json.loads(line) for line in recorded.read_text().splitlines()]
    polls = [words for words in seen if words == ["after_worker_group_poll_status"]]
    assert polls, CHANGED
    assert [words for words in seen if words not in polls] == [
        ["after_controller_start", 2, ["lr"]],
        ["before_worker_group_start", 2, {"CPU": 1}],
        ["after_worker_group_start", 2, True],
        ["after_report", [{"lr": 0.5}, {"lr": 0.5}]],
        ["after_worker_group_shutdown"],
        ["after_controller_finish", True],
    ], CHANGED


@pytest.mark.alone
def test_an_unchanged_script_is_metered_and_tracked(
    shared_ray: Settings, folder: Path, new_home: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Two trainers are two runs, a worker that dies an attempt; the exit code is the script's."""
    settings = shared_ray.model_copy(update={"home": new_home(folder / "home")})
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    own = {"HOME": str(settings.home), "METER_INTERVAL_S": "0.5"}
    variables = {**os.environ, "RAY_ADDRESS": settings.local_ray_address,
                 **{f"STEELYARD_{name}": value for name, value in own.items()}}  # fmt: skip
    command = [sys.executable, str(script), str(folder)]
    done = run(command, Session("script", team="vision"), settings, variables)
    assert (done.code, done.version) == (3, None)
    assert "nothing was trained" not in capsys.readouterr().err
    first, second = _runs(settings)
    assert {first.info.status, second.info.status} == {"FINISHED"}
    assert first.data.metrics["loss"] == 2 and first.data.metrics["rank_1/loss"] == 3
    assert first.data.params["scaling.workers"] == "2"
    assert "text" not in second.data.metrics and "steelyard.metering" not in second.data.tags
    facts = _facts(settings)
    attempts = [fact for fact in facts if isinstance(fact, RunAttempt)]
    assert [a.outcome for a in attempts if a.run_id == first.info.run_id] == ["failed", "ok"]
    assert [a.outcome for a in attempts if a.run_id == second.info.run_id] == ["ok"]
    resources = [fact for fact in facts if isinstance(fact, Resource)]
    assert {(r.device_count, r.team) for r in resources} == {(2, "vision")}
    for attempt in attempts:
        _assert_covered(facts, attempt)
    usage = [fact for fact in facts if isinstance(fact, UsageWindow)]
    assert sum(u.flop or 0 for u in usage if u.run_id == first.info.run_id) >= 2 * 2 * 2**60
    assert {u.flop for u in usage if u.run_id == second.info.run_id} == {None}


def _assert_covered(facts: list[Any], attempt: RunAttempt) -> None:
    """Its windows are its wall time without a gap, on two devices."""
    resource_id = f"train/{attempt.run_id}/{attempt.attempt}"
    windows = [f for f in facts if isinstance(f, SupplyWindow) and f.resource_id == resource_id]
    spans = sorted((w.window_start_us, w.window_end_us) for w in windows)
    assert (spans[0][0], spans[-1][1]) == (attempt.started_us, attempt.ended_us)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
    assert attempt.ended_us is not None
    assert sum(w.reserved_us for w in windows) == 2 * (attempt.ended_us - attempt.started_us)


@pytest.fixture(scope="module")
def home(new_home: Callable[[Path], Path]) -> Iterator[Settings]:
    """A home of our own."""
    place = new_home(Path(tempfile.mkdtemp(prefix="syi-")))
    yield Settings(home=place)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def injected(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Injected]:
    """What a trainer makes of the environment; no Ray is needed to call it. The spool is empty."""
    monkeypatch.setenv("STEELYARD_HOME", str(home.home))
    monkeypatch.setenv(MODEL, "script")
    yield Injected()
    if home.spool_dir.is_file():
        home.spool_dir.unlink()
    shutil.rmtree(home.spool_dir, ignore_errors=True)


def _context(**config: Any) -> Any:
    scaling = SimpleNamespace(num_workers=2, resources_per_worker=None, use_gpu=False)
    return SimpleNamespace(run_config=SimpleNamespace(callbacks=None), scaling_config=scaling,
                           train_loop_config=config)  # fmt: skip


GROUP = SimpleNamespace(num_workers=2, resources_per_worker={"CPU": 1.5})


def test_a_fault_of_ours_is_told_and_the_training_goes_on(
    injected: Injected, home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk under the spool goes away: the run says that its metering is incomplete."""
    injected.after_controller_start(_context(rate=0.1, data=object()))
    injected.before_worker_group_start(GROUP)
    shutil.rmtree(home.spool_dir)
    home.spool_dir.touch()
    for _ in range(2):
        injected.after_report(None, [{"loss": 1.0}, {"loss": 2.0}])
    injected.after_worker_group_shutdown(GROUP)
    injected.after_controller_finish(SimpleNamespace(error=None))
    assert capsys.readouterr().err.count("metering is incomplete") == 1
    tracked = _runs(home)[-1]
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["steelyard.metering"].startswith("incomplete: ")
    assert tracked.data.metrics["rank_1/loss"] == 2
    assert tracked.data.params["train_loop_config.rate"] == "0.1"
    assert "train_loop_config.data" not in tracked.data.params


@pytest.mark.parametrize(
    ("end", "status", "outcome"), [("abort", "KILLED", "cancelled"), ("error", "FAILED", "failed")]
)
def test_a_run_ends_as_its_training_did(
    injected: Injected, home: Settings, end: str, status: str, outcome: str
) -> None:
    """Ctrl-C kills it, an error fails it; both are booked."""
    injected.after_controller_start(_context())
    injected.before_worker_group_start(GROUP)
    if end == "abort":
        injected.after_worker_group_abort(GROUP)
    else:
        injected.before_controller_execute_failure_decision(None)
        injected.after_worker_group_shutdown(GROUP)
        injected.after_controller_finish(SimpleNamespace(error=RuntimeError("no")))
    assert _runs(home)[-1].info.status == status
    facts = _facts(home)
    assert [f.outcome for f in facts if isinstance(f, RunAttempt)] == [outcome]
    assert [f.device_count for f in facts if isinstance(f, Resource)] == [3]


KILLED = """
import os, signal, sys
from types import SimpleNamespace
from steelyard_workflows.user_code.injection import Injected

scaling = SimpleNamespace(num_workers=2, resources_per_worker=None, use_gpu=False)
run_config = SimpleNamespace(callbacks=None)
trainer = Injected()
trainer.after_controller_start(SimpleNamespace(
    run_config=run_config, scaling_config=scaling, train_loop_config=None))
trainer.before_worker_group_start(SimpleNamespace(num_workers=2, resources_per_worker={"CPU": 1}))
trainer.after_report(None, [{"loss": 0.5}])
if sys.argv[1:]:
    os.kill(os.getppid(), getattr(signal, sys.argv[1]))
else:
    os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""


@pytest.mark.parametrize(
    ("words", "code", "status", "outcome"),
    [([], 137, "FAILED", "failed"), (["SIGTERM"], 143, "KILLED", "cancelled")],
)
def test_a_trainer_that_goes_with_its_script_is_booked_to_its_end(
    home: Settings, injected: Injected, folder: Path, words: list[str], code: int, status: str,
    outcome: str,
) -> None:  # fmt: skip
    """Its controller cannot speak any more: the command that watches it does."""
    script = folder / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    done = run([sys.executable, str(script), *words], Session("script"), home, dict(os.environ))
    assert done.code == code
    tracked = _runs(home)[-1]
    assert (tracked.info.status, tracked.data.metrics["loss"]) == (status, 0.5)
    facts = _facts(home)
    (attempt,) = [fact for fact in facts if isinstance(fact, RunAttempt)]
    assert (attempt.run_id, attempt.outcome) == (tracked.info.run_id, outcome)
    _assert_covered(facts, attempt)


def test_gpus_without_a_declared_price_are_said_to_be_missing(
    injected: Injected, home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CPUs are booked: as a CPU's the GPUs would be wrong figures."""
    injected.after_controller_start(_context())
    injected.before_worker_group_start(
        SimpleNamespace(num_workers=2, resources_per_worker={"CPU": 1, "GPU": 1})
    )
    injected.after_worker_group_abort(GROUP)
    assert "GPUs are not booked" in capsys.readouterr().err
    facts = _facts(home)
    assert [f.device_count for f in facts if isinstance(f, Resource)] == [2]


def test_a_workflow_of_ours_keeps_its_own_books(injected: Injected, home: Settings) -> None:
    """Nothing is booked twice."""
    from steelyard_workflows.training.callbacks import LedgerCallback

    context = _context()
    context.run_config.callbacks = [LedgerCallback.__new__(LedgerCallback)]
    injected.after_controller_start(context)
    injected.before_worker_group_start(GROUP)
    injected.after_worker_group_shutdown(GROUP)
    assert _facts(home) == []


def test_a_script_that_could_not_be_booked_is_refused_before_it_trains(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the script's own process, when its trainer starts."""
    monkeypatch.setenv("STEELYARD_HOME", str(folder / "home"))
    with pytest.raises(InvalidInput, match="STEELYARD_RUN_MODEL"):
        Injected()
    monkeypatch.setenv(MODEL, "script")
    (folder / "home").mkdir()
    (folder / "home" / "spool").touch()
    with pytest.raises(Refused, match="cannot be written"):
        Injected()


def test_the_environment_says_everything_and_keeps_other_callbacks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``steelyard run`` sets is what a script's process reads."""
    monkeypatch.setenv(CALLBACKS, f"mine.Callback,{INJECTED}")
    session = Session("script", "vision", "ada", folder)
    variables = session.variables()
    assert variables[CALLBACKS] == f"mine.Callback,{INJECTED}"
    assert from_environment(variables) == session
    assert from_environment({MODEL: "script"}) == Session("script")
