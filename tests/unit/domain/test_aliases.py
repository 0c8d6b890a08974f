from dataclasses import replace

import pytest

from steelyard.domain.aliases import AliasDrift, Mirror, Outcome, compare, held, projected
from steelyard.domain.promotion import CHAMPION, Promotion
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, Step

OURS = Mirror(3, 3)
ROLLOUT = Rollout("r", "m", "canary", 3, 4, Plan((Step(10_000),), ()), "r", 100, "ada",
                  condition="progressing", step=0, weight_bp=500)  # fmt: skip


def promoted(*versions: int) -> list[Promotion]:
    """Versions that got all traffic, one after the other."""
    return [
        Promotion(n, "m", CHAMPION, None, version, "ada", "promote", "", f"r-{n}", "d" * 64)
        for n, version in enumerate(versions)
    ]


def drift(expected: int | None, found: int | None, at_us: int = 1) -> AliasDrift:
    """Somebody moved the champion."""
    return AliasDrift(at_us, "m", CHAMPION, "found", expected, found, "controller", "")


@pytest.mark.parametrize(
    ("versions", "champion", "previous"),
    [((), None, None), ((1,), 1, None), ((1, 2), 2, 1), ((1, 2, 1), 1, 2), ((1, 2, 2), 2, 1)],
)
def test_champion_and_previous_follow_the_history(
    versions: tuple[int, ...], champion: int | None, previous: int | None
) -> None:
    """The last that earned all traffic, and the last other one before it."""
    found = projected(promoted(*versions), [])
    assert found == {"champion": champion, "challenger": None, "previous": previous}


def test_the_challenger_is_that_of_the_largest_share() -> None:
    """Of several open rollouts; equal ones go by number, ended ones and undos are none."""
    two, three = replace(ROLLOUT, candidate=7), replace(ROLLOUT, candidate=6)
    assert projected([], [two, three])["challenger"] == 6
    small = replace(three, max_weight_bp=2_000)
    assert projected([], [two, small])["challenger"] == 7
    ended, undo = replace(ROLLOUT, condition="degraded"), replace(ROLLOUT, kind="undo")
    assert projected([], [ended, undo])["challenger"] is None


@pytest.mark.parametrize(
    ("expected", "found", "mirror", "newest", "outcome"),
    [
        (3, 3, OURS, None, "agrees"),
        (None, None, Mirror(), None, "agrees"),
        (4, 3, OURS, None, "write"),
        (5, 4, Mirror(3, 4), None, "write"),  # it was written, and then nobody came to say so
        (None, 3, OURS, None, "write"),  # the rollout is over
        (3, None, Mirror(), None, "write"),  # never set before
        (3, 7, OURS, None, "drifted"),
        (3, None, OURS, None, "drifted"),
        (3, 7, Mirror(), None, "drifted"),  # somebody's own alias of that name
        (None, 7, OURS, None, "drifted"),
        (3, 7, OURS, drift(3, 7), "known"),
        (4, 7, OURS, drift(3, 7), "known"),  # only our history moved
        (3, 8, OURS, drift(3, 7), "drifted"),  # it was moved once more
        (3, None, Mirror(), drift(3, None), "known"),  # its version is gone
        (4, None, Mirror(), drift(3, None), "write"),  # and now there is another one
        (7, 7, OURS, drift(3, 7), "agrees"),
        (3, 7, OURS, replace(drift(3, 7), verb="adopted"), "known"),
        (3, 7, OURS, replace(drift(3, 7), verb="restored"), "drifted"),
    ],
)
def test_what_is_ours_is_written_and_what_is_not_is_drift(
    expected: int | None, found: int | None, mirror: Mirror, newest: AliasDrift | None,
    outcome: Outcome,
) -> None:  # fmt: skip
    """An alias that stands where we left it follows; any other was moved by somebody else."""
    assert compare(expected, found, mirror, newest) == outcome


def test_a_moving_rollout_is_held_once() -> None:
    """A drift that was found while it ran stops it; resumed after that, it goes on."""
    after = held(ROLLOUT, [drift(3, 7, at_us=150)], 200)
    assert (after.condition, after.cause, after.weight_bp) == ("paused", "drift", 500)
    assert after.reason == (
        "paused: the registry's alias champion points at version 7, our history says version 3"
    )
    resumed = replace(ROLLOUT, resumed_us=160)
    assert held(resumed, [drift(3, 7, at_us=150)], 200) == resumed


def test_a_rollout_that_began_after_the_drift_goes_on() -> None:
    """Who started it could know; what is adopted is no surprise either."""
    assert held(ROLLOUT, [drift(3, 7, at_us=50)], 200) == ROLLOUT
    assert held(ROLLOUT, [replace(drift(3, 7, 150), verb="adopted")], 200) == ROLLOUT


@pytest.mark.parametrize("condition", ["preparing", "promoting", "probation", "aborting"])
def test_only_what_gains_weight_is_held(condition: str) -> None:
    """A way back is never barred, and a wait that a person set keeps its own reason."""
    rollout = replace(ROLLOUT, condition=condition)  # type: ignore[arg-type]
    assert held(rollout, [drift(3, 7, at_us=150)], 200) == rollout
