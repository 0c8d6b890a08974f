"""Answers that stable gave because the candidate could not be reached."""

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.arms import ArmStore
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.analysis import Metric
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.e_process import Interval
from steelyard.domain.latest_answers import Window
from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Rollout, Stretch
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.unit_spread import Spread

pytestmark = pytest.mark.integration
PLAN = Plan((Step(5_000, 60.0, 10), Step(10_000)), default_metrics())
STRETCH = Stretch("m", 2, 1, "r1", 0, 1_000, 0, 1_000, 0, 2_500)
ASKED: Sequence[tuple[ArmName, int, int, int, int]] = [
    # arm, version, bucket, status, cached
    ("stable", 1, 9_000, 200, 0), ("stable", 1, 9_001, 500, 0), ("canary", 2, 3, 200, 0),
    ("fallback", 1, 4, 200, 0), ("fallback", 1, 5, 500, 0), ("fallback", 1, 6, 200, 1),
    ("fallback", 1, 5_000, 200, 0), ("pinned", 2, 7, 500, 0),
]  # fmt: skip


@pytest.fixture
def arms(engine: Engine) -> ArmStore:
    """One answer after the other, under one table; two candidates have a quarter each."""
    store = RolloutStore(engine)
    store.create([
        (Rollout(f"to-{candidate}", "m", "canary", 1, candidate, PLAN, "r1", 0, "ada",
                 offset_bp=offset, max_weight_bp=2_500), Change("ada", "start"))
        for candidate, offset in ((2, 0), (3, 5_000))
    ])  # fmt: skip
    FactStore(engine).ingest([
        PredictionRecord(f"p-{n}", "m", version, "d" * 64, f"serve/m/{version}/0", arm, "r1", 1,
                         bucket, 100 + n, 5_000, 1, status, latency_us=1, cached=cached)
        for n, (arm, version, bucket, status, cached) in enumerate(ASKED)
    ], 1)  # fmt: skip
    return ArmStore(engine)


def test_they_are_errors_of_the_candidate(arms: ArmStore) -> None:
    """Three of its four, cached or not, whatever stable answered; none of stable's."""
    found = arms.intervals(Metric("errors"), STRETCH).found
    assert found == {(1, 0): Interval(4, 3, 2, 1)}
    canary, stable = arms.spread(Metric("errors"), STRETCH)
    assert (canary, stable) == (Spread(4, 3, 3, 3, 4), Spread(2, 1, 1, 1, 2))


@pytest.mark.parametrize("name", ["latency", "cost", "timeouts"])
def test_they_tell_nothing_else_of_anybody(arms: ArmStore, name: str) -> None:
    """How long it took, or what it cost, was stable's doing in a canary's place."""
    found = arms.intervals(Metric(name, slo_ms=50), STRETCH).found  # type: ignore[arg-type]
    assert [(one.n_canary, one.n_stable) for one in found.values()] == [(1, 2)]


def test_the_guard_counts_them_and_the_step_does_not(arms: ArmStore) -> None:
    """Failures in a row; a request that the candidate did not execute is none of its requests."""
    assert arms.failures_in_a_row(STRETCH) == (3, 3)
    (found,) = (
        one for one in arms.latest(["to-2"], Window(0, 1_000, 0, 1_000))["to-2"]
        if one.by == "canary"
    )  # fmt: skip
    assert (found.settled, found.later, found.recent, found.failed) == (1, 0, 4, 3)
    assert (found.last_failed_us, found.last_well_us) == (105, 102)


def test_each_candidate_bears_its_own(arms: ArmStore) -> None:
    """The bucket says in whose place stable answered."""
    sibling = Stretch("m", 3, 1, "r1", 0, 1_000, 0, 1_000, 5_000, 7_500)
    assert arms.failures_in_a_row(sibling) == (1, 1)
    (found,) = (
        one for one in arms.latest(["to-3"], Window(0, 1_000, 0, 1_000))["to-3"]
        if one.by == "canary"
    )  # fmt: skip
    assert (found.settled, found.failed) == (0, 1)
