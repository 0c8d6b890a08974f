"""Real Ray Train runs that end early: on purpose, with a checkpoint; or because they went wrong."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.spooled import spooled

from steelyard.domain.errors import SteelyardError
from steelyard.domain.metering import RunAttempt, UsageWindow
from steelyard.settings import Settings
from steelyard_workflows.workflow import Workflow

pytestmark = [
    pytest.mark.alone,
    pytest.mark.integration,
    pytest.mark.timeout(900),
    # Ray Train sets Ray Data's own deprecated options when it makes a trainer.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def test_a_run_that_diverges_stops_on_all_workers_and_is_not_tried_again(
    home: Settings, tiny: Callable[..., Workflow], train: Callable[[Workflow], Any]
) -> None:
    """The message names epoch and step; the one attempt is booked with the work that was done."""
    from mlflow.tracking import MlflowClient

    text = "model: wild\ndata: {options: {nan_at: 13, rank: 1}}\nfailure: {max_retries: 3}\n"
    with pytest.raises(SteelyardError, match=r"diverged: the training loss was nan in epoch 2, "
                       "step 13"):  # fmt: skip
        train(tiny(text))
    client = MlflowClient(home.registry_uri)
    experiment = client.get_experiment_by_name("steelyard/wild")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    attempts = [a for a in spooled(home, RunAttempt) if a.run_id == run.info.run_id]
    assert [(a.attempt, a.outcome) for a in attempts] == [(1, "failed")]
    windows = [w for w in spooled(home, UsageWindow) if w.run_id == run.info.run_id]
    assert sum(w.items for w in windows) == 120 + 3 * 12


@pytest.mark.nightly
def test_a_run_that_reaches_a_limit_ends_with_its_best_checkpoint(
    home: Settings, tiny: Callable[..., Workflow], train: Callable[[Workflow], Any]
) -> None:
    """The reason is in the journal and a tag of the run; the weights can be registered."""
    from mlflow.tracking import MlflowClient

    slow = "data: {options: {slow_s: 0.1}}\n"
    found = train(tiny(f"train: {{epochs: 500}}\n{slow}limits: {{cost_usd: 0.000001}}\n"))
    assert found.outcomes == ["ok"]
    (stopped,) = (e for e in found.journal if e.event == "stopped")
    assert stopped.reason.startswith("limits.cost_usd: ")
    assert 0 < max(found.epochs) < 500
    assert found.weights["head.weight"].shape == (3, 16)
    tags = MlflowClient(home.registry_uri).get_run(found.run_id).data.tags
    assert tags["steelyard.stopped"] == stopped.reason


@pytest.mark.nightly
def test_a_run_of_so_many_steps_ends_after_them(
    tiny: Callable[..., Workflow], train: Callable[[Workflow], Any]
) -> None:
    """Two batches make a step, Lion takes it, and the last epoch is not a whole one."""
    text = "train: {steps: 7, accumulate: 2, optimizer: lion, schedule: linear}\n"
    found = train(tiny(text))
    assert [e["step"] for e in found.epochs.values()] == [5, 7]
    assert [p[0] for e in found.journal for p in e.points] == [1, 2, 3, 4, 5, 6, 7]
    rates = [p[2] for e in found.journal for p in e.points]
    assert rates[3] == 0.01 and rates[4:] == sorted(rates[4:], reverse=True)
