"""A real two-worker Ray Train run whose second worker dies, registered and compressed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.spooled import spooled

from steelyard.bootstrap.registry import registry
from steelyard.domain.errors import InvalidInput, NotFound, Refused
from steelyard.domain.metering import Resource, RunAttempt, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.workflow import Workflow
from steelyard_workflows.workflow_file import parse

pytestmark = [
    pytest.mark.alone,
    pytest.mark.integration,
    # Ray Train sets Ray Data's own deprecated options when it makes a trainer.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

WORKFLOW = """
recipe: digits_cnn
team: vision
train: {epochs: 14}
checkpoints: {keep: 20}
early_stopping: {patience: 14}
"""


@pytest.fixture(scope="module")
def settings(home: Settings) -> Settings:
    """The shared Ray, a home of our own."""
    return home


@pytest.fixture(scope="module")
def workflow() -> Workflow:
    """Two workers, one retry."""
    return parse(WORKFLOW)


def dying_once(checkpoints: Path) -> Callable[[dict[str, Any]], None]:
    """A worker's loop whose rank 1 ends its process after three checkpoints, once."""

    def loop(config: dict[str, Any]) -> None:
        import os
        import threading

        import ray.train

        from steelyard_workflows.training.loop import train_worker

        def die() -> None:
            wait = threading.Event()
            while len(list(checkpoints.glob("*/checkpoint_*"))) < 3:
                wait.wait(0.01)
            os._exit(1)

        first = ray.train.get_checkpoint() is None
        if first and ray.train.get_context().get_world_rank() == 1:
            threading.Thread(target=die, daemon=True).start()
        train_worker(config)

    return loop


@pytest.fixture(scope="module")
def trained(settings: Settings, workflow: Workflow) -> ModelVersion:
    """The version that came out although a worker died."""
    from steelyard_workflows.train import run

    return run(workflow, settings, dying_once(settings.checkpoint_dir))


def test_a_run_survives_the_death_of_a_worker(settings: Settings, trained: ModelVersion) -> None:
    """It continues from a checkpoint, not from the start, and still reaches the accuracy."""
    from steelyard_workflows.booking import journal

    entries = journal.read(settings.checkpoint_dir / trained.run_id / "journal.jsonl")
    second = [int(e.metrics["epoch"]) for e in entries if e.attempt == 2 and e.event == "report"]
    assert second[0] > 1 and second[-1] == 14
    assert trained.evidence is not None and trained.evidence.accuracy >= 0.96


def test_every_attempt_is_booked(
    settings: Settings, workflow: Workflow, trained: ModelVersion
) -> None:
    """The lost attempt has a resource, an outcome and cost like the one that succeeded."""
    attempts = {a.attempt: a for a in spooled(settings, RunAttempt)
                if a.run_id == trained.run_id}  # fmt: skip
    assert {n: a.outcome for n, a in attempts.items()} == {1: "failed", 2: "ok"}
    for number, attempt in attempts.items():
        name = f"train/{trained.run_id}/{number}"
        (resource,) = (r for r in spooled(settings, Resource) if r.resource_id == name)
        windows = [s for s in spooled(settings, SupplyWindow) if s.resource_id == name]
        assert (resource.device_count, resource.team) == (workflow.scaling.cpus, "vision")
        assert attempt.ended_us is not None
        reserved = sum(s.reserved_us for s in windows)
        assert reserved == 2 * (attempt.ended_us - attempt.started_us)
        assert sum(s.cpu_us or 0 for s in windows) > 0


def test_counted_work_is_the_epochs_that_were_reported(
    settings: Settings, trained: ModelVersion
) -> None:
    """1,200 examples an epoch; FLOPs from the version's own profile."""
    profile = trained.flops
    assert profile is not None and profile.forward is not None and profile.train_step is not None
    own = [u for u in spooled(settings, UsageWindow) if u.run_id == trained.run_id]
    assert all(u.flop is not None for u in own if u.attempt != 1)
    rows = [u for u in own if u.resource_id.startswith("train/") and u.items]
    assert {u.items for u in rows} == {1200}
    assert {u.flop for u in rows} == {1200 * profile.train_step + 237 * profile.forward}
    assert {u.datatype for u in own} == {"fp32"}


def test_the_run_is_finished_and_followed(settings: Settings, trained: ModelVersion) -> None:
    """Parameters, one point per epoch, status FINISHED."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(settings.registry_uri)
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "14"
    steps = {m.step for m in client.get_metric_history(trained.run_id, "validation_accuracy")}
    assert steps == set(range(1, 15))


def test_the_version_can_be_fetched(settings: Settings, trained: ModelVersion) -> None:
    """The registry hands out the very bytes that were measured."""
    path = registry(settings).fetch(trained, settings.cache_dir)
    assert path.stat().st_size == trained.size_bytes
    assert (trained.version, trained.variant, trained.relation) == (1, "fp32", "trained")


def test_a_version_is_compressed_beside_its_parent(
    settings: Settings, trained: ModelVersion
) -> None:
    """A second version of the same model, smaller, with its own cost and its parent's data."""
    from steelyard_workflows.compress import compress

    small = compress(trained.name, "int8_static", settings)
    assert (small.version, small.parent, small.variant) == (2, 1, "int8_static")
    assert small.relation == "quantized" and small.size_bytes < 0.3 * trained.size_bytes
    assert small.evidence is not None and trained.evidence is not None
    assert small.evidence.data_sha256 == trained.evidence.data_sha256
    assert small.flops is not None and small.flops.method == "parent, int8 ops"
    own = [u for u in spooled(settings, UsageWindow) if u.run_id == small.run_id]
    # Calibrated on the parent; evaluated side by side, half of it in INT8.
    assert {(u.activity, u.datatype) for u in own} == {("compress", "fp32"), ("evaluate", None)}
    assert [a.outcome for a in spooled(settings, RunAttempt) if a.run_id == small.run_id] == ["ok"]
    with pytest.raises(Refused, match="a variant itself"):
        compress(small.name, "int8_static", settings)


@pytest.mark.parametrize(
    ("reference", "kind", "error", "match"),
    [
        ("digits/9", "int8_static", NotFound, "9"),
        ("unheard-of/1", "int8_static", NotFound, "unheard-of"),
        ("digits", "int8_static", InvalidInput, "no single version"),
        ("digits/1", "int4", InvalidInput, "int8_static"),
    ],
)
def test_what_cannot_be_compressed_is_named(
    settings: Settings, trained: ModelVersion, reference: str, kind: str,
    error: type[Exception], match: str,
) -> None:  # fmt: skip
    """Nothing is started for a reference or a kind that does not exist."""
    from steelyard_workflows.compress import compress

    with pytest.raises(error, match=match):
        compress(reference, kind, settings)


def test_a_run_larger_than_the_cluster_is_refused(settings: Settings) -> None:
    """Waiting for CPUs that will never be there helps nobody."""
    from steelyard_workflows.train import run

    too_large = parse("recipe: digits_cnn\nmodel: huge\nscaling: {workers: 64}\n")
    with pytest.raises(Refused, match="reserves 64 CPUs"):
        run(too_large, settings)
    with pytest.raises(NotFound):
        registry(settings).versions("huge")
