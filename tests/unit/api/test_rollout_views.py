from dataclasses import replace

import pytest

from steelyard.api.rollout_views import arms, steps
from steelyard.domain.rollout import Condition, Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics

PLAN = Plan((Step(500, 60, 50), Step(5_000, 60), Step(10_000)), default_metrics())
ROLLOUT = Rollout("r", "digits", "canary", 1, 2, PLAN, "r", 0, "ada", "progressing", 1, 5_000)


@pytest.mark.parametrize(
    ("condition", "step", "states"),
    [
        ("preparing", -1, ["to come", "to come", "to come"]),
        ("progressing", 1, ["done", "present", "to come"]),
        ("paused", 0, ["present", "to come", "to come"]),
        ("promoting", 2, ["done", "done", "present"]),
        ("healthy", 2, ["done", "done", "done"]),
        ("aborting", 1, ["done", "stopped", "to come"]),
        ("degraded", 1, ["done", "stopped", "to come"]),
        ("failed", -1, ["to come", "to come", "to come"]),
    ],
)
def test_where_a_rollout_stands_on_its_steps(
    condition: Condition, step: int, states: list[str]
) -> None:
    """Each step says whether it is behind, present, ahead, or where it ended badly."""
    rollout = replace(ROLLOUT, condition=condition, step=step)
    assert [s.state for s in steps(rollout)] == states


def test_weights_of_an_open_rollout_sum_to_all_traffic() -> None:
    """The candidate has the step's weight, stable the rest, a pinned version none of it."""
    found = arms(ROLLOUT, 1, [{"version": 7, "requests": 3}], {})
    assert [(a.version, a.role, a.weight_bp) for a in found] == [
        (1, "stable", 5_000),
        (2, "candidate", 5_000),
        (7, "pinned", None),
    ]
    assert found[2].requests == 3


def test_candidates_that_are_compared_share_what_stable_leaves() -> None:
    """Every one is an arm with its own weight."""
    first = replace(ROLLOUT, weight_bp=1_000)
    other = replace(ROLLOUT, rollout_id="s", candidate=3, weight_bp=500)
    found = arms(first, 1, [], {}, [other])
    assert [(a.version, a.role, a.weight_bp) for a in found] == [
        (1, "stable", 8_500), (2, "candidate", 1_000), (3, "candidate", 500),
    ]  # fmt: skip


def test_weights_of_an_ended_rollout_are_those_of_now() -> None:
    """After an abort stable has everything; after a promotion the new one has."""
    ended = replace(ROLLOUT, condition="degraded", weight_bp=0)
    assert [a.weight_bp for a in arms(ended, 1, [], {})] == [10_000, 0]
    healthy = replace(ROLLOUT, condition="healthy", weight_bp=10_000)
    assert [a.weight_bp for a in arms(healthy, 2, [], {})] == [0, 10_000]


def test_an_application_that_is_not_listed_does_not_run() -> None:
    """How an application is comes from the controller; without its word there is none."""
    running = {2: {"phase": "starting", "reason": "loading"}}
    stable, candidate = arms(ROLLOUT, 1, [], running)
    assert stable.application is None
    assert (candidate.application, candidate.application_reason) == ("starting", "loading")
