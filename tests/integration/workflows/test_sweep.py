"""A sweep on Ray: every trial is a run of ours, the best becomes the version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, text

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import registry
from steelyard.settings import Settings
from steelyard_workflows.cluster import connected
from steelyard_workflows.sweeps.run import sweep, sweep_of
from steelyard_workflows.workflow import Workflow

pytestmark = [
    pytest.mark.alone,
    pytest.mark.integration,
    pytest.mark.timeout(600),  # three runs: on a busy machine the usual limit is too short
    # Ray Train sets Ray Data's own deprecated options when it makes a trainer.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

SWEEP = """
train: {epochs: 4, batch_size: 11, schedule: constant, warmup_steps: 0}
early_stopping: {patience: 6}
scaling: {workers: 1}
data: {options: {slow_s: 0.03}}
sweep:
  trials: 3
  concurrent: 2
  reduction: 2
  seed: 4    # draws a good one, one whose loss is no number, a bad one
  search:
    train.learning_rate: {choice: [0.02, 1.0e-7]}
    data.options.nan_at: {choice: [0, 3]}
"""


@pytest.mark.nightly
def test_the_best_trial_becomes_the_version_and_every_trial_is_booked(
    home: Settings, tiny: Callable[..., Workflow], tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One fails, one is ended by ASHA, the good one is registered; the sweep's page has the sum."""
    place = str(tiny_folder)

    def loop(config: dict[str, Any]) -> None:
        import sys

        from steelyard_workflows.training.loop import train_worker

        sys.path.insert(0, place)
        train_worker(config)

    monkeypatch.chdir(tiny_folder)
    workflow = tiny(SWEEP)
    with connected(home, workflow):
        version = sweep(workflow, home, loop)
    client = MlflowClient(home.registry_uri)
    sweep_id = sweep_of(home, version)
    assert sweep_id is not None
    parent, trials = client.get_run(sweep_id), _trials(client, sweep_id)
    _assert_nested(parent, trials)
    assert registry(home).models() == ["tiny"]
    assert version.run_id == trials[0].info.run_id
    assert client.get_model_version("tiny", "1").tags["steelyard.sweep"] == sweep_id
    _assert_booked(home, parent, trials)


def _trials(client: MlflowClient, sweep_id: str) -> list[Run]:
    experiment = client.get_run(sweep_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{sweep_id}'")
    return sorted(found, key=lambda run: int(run.data.tags["steelyard.trial"]))


def _assert_nested(parent: Run, trials: list[Run]) -> None:
    """The sweep's page has the search space and the best; each trial's has what was drawn."""
    assert parent.info.status == "FINISHED"
    assert parent.data.params["sweep.search.data.options.nan_at.choice"] == "(0, 3)"
    assert parent.data.tags["steelyard.version"] == "tiny/1"
    assert parent.data.metrics["best/trial"] == 1
    best = min(metric(trials[0], "validation_loss"))
    assert parent.data.metrics["best/validation_loss"] == pytest.approx(best)
    assert [run.info.status for run in trials] == ["FINISHED", "FAILED", "FINISHED"]
    drawn = [(run.data.params["train.learning_rate"], run.data.params["data.options.nan_at"])
             for run in trials]  # fmt: skip
    assert drawn == [("0.02", "0"), ("0.02", "3"), ("1e-07", "0")]
    assert "steelyard.stopped" not in trials[0].data.tags
    stopped = trials[2].data.tags["steelyard.stopped"]
    assert stopped.startswith("stopped by the sweep: not among the best 1/2 by validation_loss")


def metric(run: Run, name: str) -> list[float]:
    """All values of a metric."""
    return [one.value for one in MlflowClient().get_metric_history(run.info.run_id, name)]


def _assert_booked(home: Settings, parent: Run, trials: list[Run]) -> None:
    """Every attempt with its outcome; the sum of the trials, exactly, is the sweep's."""
    with create_engine(Platform(home).engine.url).connect() as ledger:
        rows = ledger.execute(text("select run_id, outcome, started_us, ended_us from run_attempt"))
        attempts = {row.run_id: row for row in rows}
    found = [attempts.pop(run.info.run_id) for run in trials]
    assert not attempts
    assert [one.outcome for one in found] == ["ok", "failed", "ok"]
    assert found[1].started_us < found[0].ended_us, "two at a time"
    costs = [Platform(home).runs.cost("tiny", run.info.run_id) for run in trials]
    for name in ("cost_nano", "energy_mj", "device_us"):
        amounts = [getattr(one.cost, name) for one in costs if one is not None]
        assert len(amounts) == len(trials)
        assert parent.data.tags[f"steelyard.ledger.{name}"] == str(sum(amounts))
    assert parent.data.metrics["ledger/cost_usd"] > 0
