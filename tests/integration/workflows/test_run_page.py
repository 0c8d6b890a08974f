"""A run's page in a real MLflow whose server is killed while the run trains, and comes back."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tests.free_ports import free_ports

from steelyard.bootstrap import Platform
from steelyard.bootstrap.processes import mlflow_process
from steelyard.domain.errors import Unavailable
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.environment import prepare
from steelyard_workflows.tracking import outbox, totals
from steelyard_workflows.tracking.run_page import log_metrics, outbox_of
from steelyard_workflows.workflow import Workflow
from steelyard_workflows.workflow_file import parse

pytestmark = [
    pytest.mark.alone,
    pytest.mark.integration,
    # MLflow's server starts twice, which takes most of it.
    pytest.mark.timeout(600),
    # Ray Train sets Ray Data's own deprecated options when it makes a trainer.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

MODEL, EPOCHS = "numerals", 6
WORKFLOW = f"""
recipe: digits_cnn
model: {MODEL}
owner: ada
train: {{epochs: {EPOCHS}}}
checkpoints: {{keep: 20}}
early_stopping: {{patience: {EPOCHS}}}
"""
LOSSES = ("train_loss", "validation_loss", "validation_accuracy")


@dataclass
class Server:
    """An MLflow server that can be killed and started again, over the same database."""

    settings: Settings
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it answers."""
        spec = mlflow_process(self.settings)
        self.process = subprocess.Popen(
            spec.command, env={**os.environ, **spec.environment}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:  # refused, or reset while it starts
                assert self.process.poll() is None and time.monotonic() < end
                time.sleep(0.2)

    def kill(self) -> None:
        """At once, with its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None


@pytest.fixture(scope="module")
def server(seeded_home: Path) -> Iterator[Server]:
    """A running one."""
    home = Path(tempfile.mkdtemp(prefix="sym-"))
    # A migrated database, because making one takes longer than any test here.
    shutil.copy(seeded_home / "mlflow.db", home / "mlflow.db")
    (port,) = free_ports(1)
    made = Server(Settings(home=home, mlflow_port=port), port)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def settings(ray_cluster: Settings, server: Server) -> Iterator[Settings]:
    """The shared Ray, the server as registry, a home of our own."""
    home = Path(tempfile.mkdtemp(prefix="syp-"))
    own = ray_cluster.model_copy(
        update={"home": home, "mlflow_uri": server.uri, "region": "DEU", "unknown_region": "null"}
    )
    prepare(own)
    yield own
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def workflow() -> Workflow:
    """Six epochs; no early stop."""
    return parse(WORKFLOW)


@dataclass
class Outage:
    """Kills the server after the second epoch, and starts it again when training is over."""

    server: Server
    checkpoints: Path
    seen: list[str] = field(default_factory=list)
    waited: int = 0

    def run(self) -> None:
        """From another thread than the training's."""
        self._until(lambda: self._count("report") >= 2)
        self.server.kill()
        self.seen.append("killed")
        self._until(lambda: self._count("attempt_ended") >= 1)
        self.waited = sum(outbox.unsent(path) for path in self.checkpoints.glob("*/outbox.jsonl"))
        self.seen.append("trained")
        self.server.start()
        self.seen.append("back")

    def _count(self, event: str) -> int:
        return sum(
            entry.event == event
            for path in self.checkpoints.glob("*/journal.jsonl")
            for entry in journal.read(path)
        )

    def _until(self, happened: Callable[[], bool]) -> None:
        end = time.monotonic() + 200
        while not happened():
            assert time.monotonic() < end
            time.sleep(0.05)


@dataclass(frozen=True)
class Trained:
    """What came out, and the page of its run."""

    version: ModelVersion
    page: Run
    outage: Outage


@pytest.fixture(scope="module")
def trained(settings: Settings, workflow: Workflow, server: Server) -> Trained:
    """A real training by two workers, its MLflow away from the second epoch to the end."""
    from steelyard_workflows.train import run

    outage = Outage(server, settings.checkpoint_dir)
    thread = threading.Thread(target=outage.run, daemon=True)
    thread.start()
    with totals.accounted(settings):
        version = run(workflow, settings)
    thread.join()
    page = MlflowClient(settings.registry_uri).get_run(version.run_id)
    return Trained(version, page, outage)


def _history(settings: Settings, run_id: str, name: str) -> list[tuple[int, float]]:
    client = MlflowClient(settings.registry_uri)
    return [(m.step, m.value) for m in client.get_metric_history(run_id, name)]


def test_training_does_not_stop_for_a_tracker_that_is_away(trained: Trained) -> None:
    """It ends while nobody answers, with something to say, and is registered afterwards."""
    assert trained.outage.seen == ["killed", "trained", "back"]
    assert trained.outage.waited > 0
    assert trained.page.info.status == "FINISHED"
    assert trained.version.version == 1


def test_nothing_is_lost_and_nothing_comes_twice(settings: Settings, trained: Trained) -> None:
    """Each metric of each epoch is there once, as the journal has it; the outbox is gone."""
    run_id = trained.version.run_id
    entries = journal.read(settings.checkpoint_dir / run_id / "journal.jsonl")
    reports = [entry.metrics for entry in entries if entry.event == "report"]
    assert len(reports) == EPOCHS
    for name in LOSSES:
        expected = [(int(m["epoch"]), m[name]) for m in reports]
        assert _history(settings, run_id, name) == expected
    steps = [step for step, _ in _history(settings, run_id, "step/train_loss")]
    assert steps == sorted(set(steps)) and len(steps) > EPOCHS
    assert len(_history(settings, run_id, "items_per_s")) == EPOCHS
    assert not outbox_of(settings, run_id).exists()


def test_the_page_says_what_was_run_on_what(trained: Trained, workflow: Workflow) -> None:
    """Parameters, environment, code, data; the node's load."""
    params, metrics = trained.page.data.params, trained.page.data.metrics
    assert params["train.epochs"] == str(EPOCHS) and params["owner"] == "ada"
    assert params["environment.torch"].startswith("2.") and params["code.commit"]
    assert params["data.train.rows"] == "1200" and len(params["data.sha256"]) == 64
    assert trained.page.inputs is not None
    contexts = {tag.value for one in trained.page.inputs.dataset_inputs for tag in one.tags}
    assert contexts == {"training", "validation", "test"}
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100


def test_the_page_has_curves_weights_and_the_workflow(
    settings: Settings, trained: Trained, workflow: Workflow, tmp_path: Path
) -> None:
    """The workflow is the file that makes this run again; the weights need no pickle."""
    client = MlflowClient(settings.registry_uri)
    folder = Path(client.download_artifacts(trained.version.run_id, "", str(tmp_path)))
    assert (folder / "curves" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "curves" / "learning_curves.svg").stat().st_size > 1_000
    text = (folder / "workflow.yaml").read_text(encoding="utf-8")
    assert parse(text) == workflow and yaml.safe_load(text)["model"] == MODEL
    state = torch.load(BytesIO((folder / "checkpoints" / "best.pt").read_bytes()),
                       weights_only=True)  # fmt: skip
    assert sum(t.numel() for t in state["network"].values()) == trained.version.parameters
    assert 1 <= int(trained.page.data.tags["steelyard.best_epoch"]) <= EPOCHS


def test_the_model_has_a_signature_and_an_input_example(
    settings: Settings, trained: Trained
) -> None:
    """The example is one that the model takes."""
    import mlflow

    mlflow.set_tracking_uri(settings.registry_uri)
    model = mlflow.pyfunc.load_model(f"models:/{trained.version.model}/{trained.version.version}")
    example: Any = model.input_example
    assert example["input"].shape == (2, 1, 8, 8)
    assert model.predict(example)["logits"].shape == (2, 10)
    assert model.metadata.signature is not None


def test_the_page_and_the_ledger_name_each_other(settings: Settings, trained: Trained) -> None:
    """Tags lead to the model's account; the account knows the run."""
    tags, run_id = trained.page.data.tags, trained.version.run_id
    assert tags["steelyard.ledger_subject"] == f"run/{run_id}"
    assert tags["steelyard.run_url"] == f"{settings.api_url}/models/{MODEL}"
    assert tags["steelyard.version"] == f"{MODEL}/1"
    platform = Platform(settings)
    (version,) = platform.statements.model(MODEL).versions
    assert version.run_id == run_id


def test_the_total_is_the_ledger_s_to_the_unit(settings: Settings, trained: Trained) -> None:
    """Money, energy, both carbons, device time, FLOPs; what is unknown is not there."""
    platform = Platform(settings)
    (version,) = platform.statements.model(MODEL).versions
    expected = {k: v for k, v in asdict(version.training).items() if v is not None}
    assert {"device_us", "energy_mj", "flop", "cost_nano", "carbon_ug"} <= expected.keys()
    tags, metrics = trained.page.data.tags, trained.page.data.metrics
    assert {k: int(tags[f"steelyard.ledger.{k}"]) for k in expected} == expected
    for name, amount in expected.items():
        shown, scale = totals.METRICS[name]
        assert round(metrics[shown] * scale) == pytest.approx(amount, rel=1e-15, abs=0)
    unknown = set(totals.METRICS) - expected.keys()
    assert not {totals.METRICS[name][0] for name in unknown} & metrics.keys()


def test_writing_the_total_again_changes_nothing(settings: Settings, trained: Trained) -> None:
    """One point a figure, however often the books are posted."""
    platform, run_id = Platform(settings), trained.version.run_id
    cost = platform.runs.cost(MODEL, run_id)
    assert cost is not None
    totals.write_back(settings, run_id, cost)
    with totals.accounted(settings):
        pass
    assert len(_history(settings, run_id, "ledger/cost_usd")) == 1
    assert MlflowClient(settings.registry_uri).get_run(run_id).info.status == "FINISHED"


def test_a_variant_is_nested_under_its_parent_and_has_a_total(
    settings: Settings, trained: Trained
) -> None:
    """Making and judging it is its own cost."""
    from steelyard_workflows.compress import compress

    with totals.accounted(settings):
        small = compress(trained.version.name, "int8_static", settings)
    page = MlflowClient(settings.registry_uri).get_run(small.run_id)
    assert page.data.tags["mlflow.parentRunId"] == trained.version.run_id
    assert page.data.tags["steelyard.version"] == small.name
    assert page.data.metrics["ledger/cost_usd"] > 0
    versions = Platform(settings).statements.model(MODEL).versions
    own = {v.version: v.training.cost_nano for v in versions}[small.version]
    assert int(page.data.tags["steelyard.ledger.cost_nano"]) == own


def test_what_a_stopped_run_had_to_say_is_sent_by_the_next_one(
    settings: Settings, workflow: Workflow, server: Server, trained: Trained,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Ctrl-C while MLflow is away does not wait for long, and loses nothing."""
    from steelyard_workflows.tracking.run import tracked

    with pytest.raises(KeyboardInterrupt), tracked(settings, workflow, "stopped", {}) as first:
        server.kill()
        for step in (1, 2, 3):
            log_metrics(settings, first, {"train_loss": 1 / step}, step, time.time_ns() // 1_000)
        raise KeyboardInterrupt
    said = capfd.readouterr().err
    assert f"MLflow has not got all of run {first}; the next `steelyard train` sends it." in said
    with pytest.raises(Unavailable), tracked(settings, workflow, "away", {}):
        pytest.fail("a run cannot start without its tracker")
    server.start()
    with tracked(settings, workflow, "next", {}):
        page = MlflowClient(settings.registry_uri).get_run(first)
    assert page.info.status == "KILLED"
    assert [step for step, _ in _history(settings, first, "train_loss")] == [1, 2, 3]
    assert page.data.params["train.epochs"] == str(EPOCHS)
    assert not outbox_of(settings, first).exists()


def test_a_run_whose_process_was_killed_does_not_stay_open(
    settings: Settings, workflow: Workflow, server: Server, trained: Trained
) -> None:
    """The next one ends it, FAILED; one that had ended stays as it was."""
    from steelyard_workflows.tracking.run import tracked

    client = MlflowClient(settings.registry_uri)
    experiment = client.get_experiment_by_name(f"steelyard/{MODEL}")
    assert experiment is not None
    lost = client.create_run(experiment.experiment_id).info.run_id
    for run_id in (lost, trained.version.run_id):
        log_metrics(settings, run_id, {"late": 1.0}, 1, 1_000_000)
    with tracked(settings, workflow, "after", {}):
        pass
    assert client.get_run(lost).info.status == "FAILED"
    assert client.get_run(trained.version.run_id).info.status == "FINISHED"
    assert client.get_run(lost).data.metrics["late"] == 1.0


def test_what_belongs_to_another_mlflow_stays_on_disk(
    settings: Settings, workflow: Workflow, server: Server, trained: Trained,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is named, not thrown away."""
    from steelyard_workflows.tracking.run import send_left

    log_metrics(settings, "0" * 32, {"train_loss": 1.0}, 1, 1_000_000)
    send_left(settings)
    path = outbox_of(settings, "0" * 32)
    assert f"stays in {path}" in capfd.readouterr().err
    assert outbox.unsent(path) > 0
    shutil.rmtree(path.parent)


def test_a_run_that_fails_has_its_curves(
    settings: Settings, workflow: Workflow, server: Server, trained: Trained
) -> None:
    """FAILED, with the picture of what it learned until then."""
    from steelyard_workflows.tracking import run_report
    from steelyard_workflows.tracking.run import tracked

    with (
        pytest.raises(ZeroDivisionError),
        tracked(settings, workflow, "fails", {}) as run_id,
        run_report.learning_shown(settings, run_id, workflow),
    ):
        for epoch in range(1, EPOCHS + 2):
            values = {"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": float(epoch)}
            path = settings.checkpoint_dir / run_id / "journal.jsonl"
            journal.append(path, journal.Entry("report", 1, epoch, None, values))
        raise ZeroDivisionError
    client = MlflowClient(settings.registry_uri)
    page = client.get_run(run_id)
    assert page.info.status == "FAILED"
    assert page.data.tags["steelyard.overfitting"].startswith("epoch 1: until epoch 7")
    assert len(client.list_artifacts(run_id, "curves")) == 2
