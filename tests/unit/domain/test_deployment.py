from dataclasses import replace
from typing import Any

import pytest

from steelyard.domain.deployment import desired_versions, warm_until_us
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, Step

SECOND = 1_000_000
PLAN = Plan((Step(500), Step(10_000)), (), keep_warm_s=600.0)


def _rollout(**changes: Any) -> Rollout:
    return replace(Rollout("r1", "m", "canary", 1, 2, PLAN, "r1", 0, "ada"), **changes)


def test_a_model_without_rollouts_runs_its_stable_version() -> None:
    """Or nothing, when nothing was ever deployed."""
    assert desired_versions("m", 3, [], 0).versions == {3: "stable"}
    assert desired_versions("m", None, [], 0).versions == {}


@pytest.mark.parametrize(
    "condition", ["preparing", "progressing", "paused", "promoting", "aborting"]
)
def test_both_versions_of_an_open_rollout_run(condition: str) -> None:
    """From the first preparation until the last traffic has left."""
    rollouts = [_rollout(condition=condition)]
    assert desired_versions("m", 1, rollouts, 0).versions == {1: "stable", 2: "candidate"}


def test_a_first_deployment_runs_alone() -> None:
    """There is nothing beside it."""
    first = _rollout(kind="first", stable=None)
    assert desired_versions("m", None, [first], 0).versions == {2: "candidate"}


@pytest.mark.parametrize(
    ("condition", "age_s", "stable", "versions"),
    [
        ("healthy", 599, 2, {1: "warm", 2: "stable"}),
        ("healthy", 600, 2, {2: "stable"}),
        ("degraded", 29, 1, {1: "stable", 2: "warm"}),
        ("degraded", 30, 1, {1: "stable"}),
        ("failed", 0, 1, {1: "stable"}),
    ],
)
def test_what_lost_its_traffic_stays_warm_for_a_while(
    condition: str, age_s: int, stable: int, versions: dict[int, str]
) -> None:
    """The old version for the plan's time; an aborted one until its last answers are out."""
    ended = _rollout(condition=condition, ended_us=0)
    assert desired_versions("m", stable, [ended], age_s * SECOND).versions == versions


def test_an_open_rollout_outranks_a_warm_memory() -> None:
    """Going back to a version that is still warm makes it the candidate again."""
    undo = _rollout(rollout_id="r2", kind="undo", stable=2, candidate=1)
    ended = _rollout(condition="healthy", ended_us=0)
    for order in ([undo, ended], [ended, undo]):
        assert set(desired_versions("m", 2, order, SECOND).versions) == {1, 2}
    assert desired_versions("m", 2, [undo, ended], SECOND).versions[1] == "candidate"


def test_a_shadow_runs_until_it_is_something_better() -> None:
    """A rollout of it, or its promotion, is the reason that counts."""
    assert desired_versions("m", 1, [], 0, shadow=2).versions == {1: "stable", 2: "shadow"}
    assert desired_versions("m", 2, [], 0, shadow=2).versions == {2: "stable"}
    rollouts = [_rollout(condition="progressing")]
    found = desired_versions("m", 1, rollouts, 0, shadow=2).versions
    assert found == {1: "stable", 2: "candidate"}
    ended = [_rollout(condition="degraded", ended_us=0)]
    assert desired_versions("m", 1, ended, SECOND, shadow=2).versions[2] == "shadow"


@pytest.mark.parametrize(
    ("drained_s", "versions"),
    [(9, {1: "warm", 2: "stable"}), (10, {1: "warm", 2: "stable"}), (11, {2: "stable"})],
)
def test_what_was_drained_is_kept_warm_no_more(drained_s: int, versions: dict[int, str]) -> None:
    """By a rollout that ended before; one that ends later keeps it warm again."""
    ended = [_rollout(condition="healthy", ended_us=10 * SECOND)]
    drained = {1: drained_s * SECOND, 2: 20 * SECOND}
    found = desired_versions("m", 2, ended, 15 * SECOND, drained=drained).versions
    assert found == versions


def test_how_long_a_version_stays_warm_is_known() -> None:
    """The last rollout that keeps it counts; what none keeps has no such moment."""
    ended = [_rollout(condition="healthy", ended_us=t * SECOND) for t in (0, 10)]
    assert warm_until_us(ended, 1) == 610 * SECOND
    assert warm_until_us(ended, 2) is None
    aborted = _rollout(condition="degraded", ended_us=0)
    assert warm_until_us([aborted], 2) == 30 * SECOND
