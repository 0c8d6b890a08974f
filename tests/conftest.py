"""Shared by every kind of test: a platform's home with a history, made once through the services.

``digits`` is deployed, has served past its break-even and has a quantized version on its way;
``wide`` is trained and barely used; ``unpriced`` ran on a device without price or power figures.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlparse

import pytest
from tests.registry_client import client_of

from steelyard.adapters.sql.labels import LabelStore
from steelyard.bootstrap import Platform
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.evidence import Evidence
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Activity, Resource, RunAttempt, SupplyWindow, UsageWindow
from steelyard.domain.model_version import (
    Candidate,
    ModelVersion,
    Relation,
    Signature,
    TensorSpec,
)
from steelyard.domain.presets import PRESETS, ByHand, adapted
from steelyard.domain.rollout import Rollout
from steelyard.ports.applications import ApplicationState
from steelyard.settings import Settings

SECOND = 1_000_000
WINDOW = 10 * SECOND
READY = {("digits", n): ApplicationState("ready") for n in (1, 2)}


@pytest.fixture(scope="session")
def seeded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that tests copy; see ``seeded``."""
    home = tmp_path_factory.mktemp("seeded")
    platform = Platform(Settings(home=home))
    origin = platform.clock.now_us() - 3600 * SECOND
    first = _register(platform, "digits", "trained", None)
    _train(platform, "digits", first.run_id, origin, 12)
    _serve(platform, "digits", 1, origin + 120 * SECOND, 48, 50)
    _deploy(platform)
    second = _register(platform, "digits", "quantized", 1)
    _train(platform, "digits", second.run_id, origin + 700 * SECOND, 2, "compress")
    wide = _register(platform, "wide", "trained", None)
    _train(platform, "wide", wide.run_id, origin, 40)
    _serve(platform, "wide", 1, origin + 420 * SECOND, 3, 20)
    _train(platform, "unpriced", "run-unpriced", origin, 1, sku="unlisted", device="unlisted")
    platform.learn_versions()
    platform.books.post()
    _roll_out(platform, origin + 800 * SECOND)
    platform.engine.dispose()
    return home


@pytest.fixture
def copy_of(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Makes a platform of one's own over a copy of a home, with other settings where wanted."""
    with ExitStack() as ends:

        def make(home: Path, **others: str) -> Platform:
            shutil.copytree(home, tmp_path / "home")
            platform = Platform(Settings.model_validate({"home": tmp_path / "home", **others}))
            ends.callback(platform.engine.dispose)
            return platform

        yield make


@pytest.fixture
def seeded(seeded_home: Path, copy_of: Callable[..., Platform]) -> Platform:
    """A platform of one's own over a copy of the seeded home."""
    return copy_of(seeded_home)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Platform]:
    """A platform that has seen nothing yet."""
    platform = Platform(Settings(home=tmp_path / "home"))
    yield platform
    platform.engine.dispose()


@pytest.fixture
def pause_rollout() -> Callable[[Platform], Rollout]:
    """What a person does with ``steelyard rollout pause digits``."""
    return lambda platform: platform.rollouts.act("digits", "pause", "ada")


def _register(
    platform: Platform, model: str, relation: Relation, parent: int | None
) -> ModelVersion:
    client = client_of(platform)
    known = client.get_experiment_by_name(model)
    run = client.create_run(
        known.experiment_id if known else client.create_experiment(
            model, platform.settings.artifact_root.as_uri()
        )
    )  # fmt: skip
    half = 2 if parent else 1
    evidence = Evidence(
        size_bytes=481_280 // half, accuracy=0.9722 - 0.0028 * (half - 1), examples=360,
        latency_ms_p50=0.214 / half, latency_ms_p95=0.391 / half, hardware={"cpu": "test"},
        parent_size_bytes=481_280 if parent else None, parent_accuracy=0.9722 if parent else None,
        parent_latency_ms_p50=0.214 if parent else None,
        parent_latency_ms_p95=0.391 if parent else None, agreement=0.9917 if parent else None,
        labels=360, chance=0.1, accuracy_low=0.94, accuracy_high=0.985,
        parent_only_right=2 if parent else None, own_only_right=1 if parent else None,
    )  # fmt: skip
    tensor = TensorSpec("x", "FP32", (-1, 64))
    content = _file(model, evidence.size_bytes)
    folder = Path(urlparse(run.info.artifact_uri).path) / "model"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    return platform.registry.register(
        Candidate(
            model, run.info.run_id, f"{run.info.artifact_uri}/model", "model.onnx",
            sha256(content).hexdigest(), len(content),
            "int8" if parent else "full", relation, Signature((tensor,), (tensor,)),
            parent=parent, evidence=evidence,
        )
    )  # fmt: skip


def _file(name: str, size: int) -> bytes:
    """An ONNX file of so many bytes that answers with what it is asked."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 64]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], name, [x], [y])
    model = helper.make_model(graph)
    model.doc_string = "." * (size - 1_000)
    model.doc_string += "." * (size - model.ByteSize())
    content: bytes = model.SerializeToString()
    return content


def _train(
    platform: Platform, model: str, run_id: str, start: int, windows: int,
    activity: Activity = "train", sku: str = "vcpu-hour", device: str = "generic-vcpu",
) -> None:  # fmt: skip
    resource = Resource(f"train/{run_id}/0", "train_worker", device, 2, 1, sku, start, "DEU")
    facts: list[Fact] = [resource, RunAttempt(run_id, 1, model, "ok", start, start + 1)]
    for n in range(windows):
        left, right = start + n * WINDOW, start + (n + 1) * WINDOW
        facts += [
            SupplyWindow(run_id, "boot", 2 * n, resource.resource_id, left, right, 2 * WINDOW,
                         cpu_us=WINDOW),
            UsageWindow(run_id, "boot", 2 * n + 1, resource.resource_id, left, right, model, None,
                        "training", activity, run_id, 1, items=4_000, busy_ns=9 * 10**9,
                        flop=31_234_567_890),
        ]  # fmt: skip
    platform.facts.ingest(facts, start)


def _serve(
    platform: Platform, model: str, version: int, start: int, windows: int, requests: int
) -> None:
    """Windows of serving, posted one by one as the collector does."""
    replica = f"serve/{model}/{version}/0"
    made = Resource(replica, "replica", "generic-vcpu", 1, 1, "vcpu-hour", start, "DEU")
    platform.facts.ingest([made], start)
    for n in range(windows):
        left, right = start + n * WINDOW, start + (n + 1) * WINDOW
        facts: list[Fact] = [
            SupplyWindow(replica, "boot", 2 * n, replica, left, right, WINDOW, cpu_us=WINDOW // 4),
            UsageWindow(replica, "boot", 2 * n + 1, replica, left, right, model, version,
                        "inference", "serve", requests=requests, errors=int(n == 7),
                        items=requests, busy_ns=2_400_000_000, flop=requests * 1_300_000),
        ]  # fmt: skip
        platform.facts.ingest(facts, right)
        platform.books.post()


def _deploy(platform: Platform) -> None:
    platform.rollouts.deploy("digits", 1, "ada")
    _turn(platform)
    _turn(platform)


def _turn(platform: Platform) -> Rollout:
    """One turn of the controller with an edge that confirms at once."""
    now = platform.clock.now_us()
    token = platform.rollout_store.leases.acquire("controller", "test", now, 60 * SECOND)
    assert token is not None
    (turn,) = platform.rollouts.turns.all(READY, 0, token)
    if turn.after.generation:
        platform.rollouts.confirm("digits", turn.after.generation, token)
    return turn.after


def _roll_out(platform: Platform, at: int) -> None:
    plan = adapted(PRESETS["fast"], ByHand((5, 25, 50, 100), 600, 50, 0.001, 0, 3600))
    platform.rollouts.start("digits", 2, plan, "ada")
    rollout = _turn(platform)
    records = [
        PredictionRecord(
            f"p-{n}", "digits", 2 if n % 10 == 0 else 1, "d" * 64, f"serve/digits/{n % 2}/0",
            "canary" if n % 10 == 0 else "stable", rollout.lineage, rollout.generation,
            n % 10_000, rollout.created_us + n, 1_250_000, 1, 500 if n == 3 else 200,
            classes=(n % 10,),
        )
        for n in range(200)
    ]  # fmt: skip
    platform.facts.ingest(records, at)
    truth = {f"p-{n}": [(n + (n % 33 == 1)) % 10] for n in range(100)}
    LabelStore(platform.engine).add(truth.items(), "seed", at)
    platform.rollout_store.applications.publish("digits", 1, "ready", "", at)
    platform.rollout_store.applications.publish("digits", 2, "ready", "", at)
    _turn(platform)


@pytest.fixture
def typed_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Callable[..., tuple[int, str, str]]]:
    """Makes a function that types commands about the platform of a home.

    It gives exit code, standard output and standard error, the latter as one line. Words that all
    commands begin with are said once.
    """
    from steelyard.cli.app import run as steelyard

    def at(home: Path, *first: str) -> Callable[..., tuple[int, str, str]]:
        monkeypatch.setenv("STEELYARD_HOME", str(home))

        def ask(*words: str) -> tuple[int, str, str]:
            capsys.readouterr()
            code = steelyard([*first, *words])
            shown = capsys.readouterr()
            return code, shown.out, " ".join(shown.err.split())

        return ask

    return at


@pytest.fixture
def typed(
    typed_at: Callable[..., Callable[..., tuple[int, str, str]]],
) -> Callable[..., Callable[..., tuple[int, str, str]]]:
    """The same for a platform's operator, who has its token."""

    def at(platform: Platform, *first: str) -> Callable[..., tuple[int, str, str]]:
        platform.settings.secret_dir.mkdir(exist_ok=True)
        (platform.settings.secret_dir / "api.token").write_text("token")
        return typed_at(platform.settings.home, *first)

    return at
