"""Real Ray Train runs whose workers are killed: what comes out is what would have come out."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.spooled import spooled

from steelyard.domain.metering import RunAttempt, SupplyWindow
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

KILLS = int(os.environ.pop("STEELYARD_KILLS", "2"))
"""How many runs lose a worker; each costs some seconds. Not a setting: taken out again."""
BATCHES = 30
"""A worker's batches of the whole run: 3 epochs of 10."""
SETTINGS_OF_A_RUN = "checkpoints: {every_steps: 3, keep: 1}\n"


def killed_at(batch: int, rank: int, folder: Path) -> str:
    """The YAML that has a worker killed once, before it computes one of its batches."""
    return (
        f"{SETTINGS_OF_A_RUN}"
        f"data: {{options: {{kill_at: {batch}, rank: {rank}, killed: {folder / 'killed'}}}}}\n"
    )


@pytest.fixture(scope="module")
def undisturbed(tiny: Callable[..., Workflow], train: Callable[[Workflow], Any]) -> Any:
    """The run that nothing happens to."""
    return train(tiny(SETTINGS_OF_A_RUN))


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_worker_changes_nothing(
    number: int, home: Settings, undisturbed: Any, tmp_path: Path,
    tiny: Callable[..., Workflow], train: Callable[[Workflow], Any],
) -> None:  # fmt: skip
    """Metrics of every epoch and the best weights are equal bit by bit, wherever SIGKILL hits.

    The lost attempt is in the ledger's facts with its cost, beside the one that succeeded.
    """
    draw = random.Random(number)
    batch, rank = draw.randint(1, BATCHES), draw.randint(0, 1)
    found = train(tiny(killed_at(batch, rank, tmp_path)))
    assert (tmp_path / "killed").exists(), "the worker was not killed"
    assert found.outcomes == ["failed", "ok"]
    assert found.epochs == undisturbed.epochs, (batch, rank)
    assert found.weights.keys() == undisturbed.weights.keys()
    for name, weights in undisturbed.weights.items():
        assert torch.equal(found.weights[name], weights), (name, batch, rank)
    assert booked(home, found.run_id) == {1: "failed", 2: "ok"}


@pytest.mark.nightly
def test_a_network_in_parts_resumes_exactly_and_learns_what_a_whole_one_learns(
    undisturbed: Any, tmp_path: Path, tiny: Callable[..., Workflow],
    train: Callable[[Workflow], Any],
) -> None:  # fmt: skip
    """FSDP2: a killed run is equal to an undisturbed one; DDP's losses are alike."""
    sharded = "scaling: {strategy: fsdp2}\n"
    whole = train(tiny(f"{SETTINGS_OF_A_RUN}{sharded}"))
    parts = train(tiny(f"{killed_at(14, 1, tmp_path)}{sharded}"))
    assert (whole.outcomes, parts.outcomes) == (["ok"], ["failed", "ok"])
    assert parts.epochs == whole.epochs
    for name, weights in whole.weights.items():
        assert torch.equal(parts.weights[name], weights), name
    for epoch, metrics in undisturbed.epochs.items():
        assert parts.epochs[epoch] == pytest.approx(metrics, rel=1e-3), epoch


def booked(home: Settings, run_id: str) -> dict[int, str]:
    """The outcome of each attempt; its windows cover it to the microsecond."""
    attempts = [a for a in spooled(home, RunAttempt) if a.run_id == run_id]
    for attempt in attempts:
        name = f"train/{run_id}/{attempt.attempt}"
        windows = [w for w in spooled(home, SupplyWindow) if w.resource_id == name]
        assert attempt.ended_us is not None
        reserved = sum(window.reserved_us for window in windows)
        assert reserved == 2 * (attempt.ended_us - attempt.started_us) > 0
    return {attempt.attempt: attempt.outcome for attempt in attempts}
