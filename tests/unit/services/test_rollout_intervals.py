"""Closing intervals: a few models a turn, each unit until its first event."""

import random
from collections.abc import Sequence

import pytest

from steelyard.adapters.sql.arms import ArmStore
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.e_process import Interval
from steelyard.domain.errors import Conflict
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.traffic import BUCKETS
from steelyard.services import rollout_intervals
from steelyard.services.rollout_intervals import MOST_MODELS, Intervals

from .conftest import NUMBERS, Delivery

INTERVAL_S = 10
PLAN = Plan((Step(1_000, 60.0), Step(BUCKETS)), default_metrics(), interval_s=INTERVAL_S)
MODELS = [f"m{number}" for number in range(2 * MOST_MODELS + 1)]


def _rollout(delivery: Delivery, model: str, name: str = "") -> Rollout:
    return Rollout(name or model, model, "canary", 1, 2, PLAN, model, delivery.clock.at_us, "ada",
                   "progressing", 0, 1_000, generation=1)  # fmt: skip


def _ask(delivery: Delivery, model: str, units: Sequence[int], failing: Sequence[int] = ()) -> None:
    """Units ask now, those below 10 the canary; some of them get an error."""
    records = []
    for number, unit in enumerate(units):
        canary = unit < 10
        arm: ArmName = "canary" if canary else "stable"
        records.append(PredictionRecord(
            f"p-{next(NUMBERS)}", model, 2 if canary else 1, "d" * 64, "r", arm, model, 1, unit,
            delivery.clock.at_us + number, 5, 1, 500 if unit in failing else 200,
            unit_sha256=f"unit-{unit}",
        ))  # fmt: skip
    delivery.facts.ingest(records, delivery.clock.at_us)


def _turn(delivery: Delivery, intervals: Intervals, rollouts: Sequence[Rollout]) -> set[str]:
    """One turn; the models that are behind after it."""
    intervals.look(rollouts, delivery.clock.at_us, 0)
    for rollout in rollouts:
        intervals.close(rollout, delivery.clock.at_us, delivery.token)
    return {one.model for one in rollouts if intervals.is_behind(one)}


def _kept(delivery: Delivery, rollout: Rollout) -> list[Interval]:
    return delivery.store.observations.by_metric(rollout.rollout_id).get("errors", [])


def _intervals(delivery: Delivery) -> Intervals:
    return Intervals(delivery.store.observations, ArmStore(delivery.engine))


def test_intervals_that_end_together_are_counted_in_some_turns(delivery: Delivery) -> None:
    """A few models each, those that have waited longest first, until none is behind."""
    intervals, rollouts = _intervals(delivery), [_rollout(delivery, model) for model in MODELS]
    assert _turn(delivery, intervals, rollouts) == set()
    for ends in (1, 2):
        for model in MODELS:
            _ask(delivery, model, [1, 11])
        delivery.clock.wait(INTERVAL_S)
        behind = [_turn(delivery, intervals, rollouts) for _ in range(3)]
        assert [len(some) for some in behind] == [MOST_MODELS + 1, 1, 0]
        assert [_kept(delivery, one) for one in rollouts] == [
            [Interval(1, 0, 1, 0)] * ends for _ in MODELS
        ]


def test_a_model_that_waits_is_passed_by_none_that_was_counted_since(delivery: Delivery) -> None:
    """Also where intervals end faster than they are counted, every model has its turn."""
    intervals, rollouts = _intervals(delivery), [_rollout(delivery, model) for model in MODELS]
    _turn(delivery, intervals, rollouts)
    counted: list[set[str]] = []
    for _ in range(4):
        for model in MODELS:
            _ask(delivery, model, [1, 11])
        delivery.clock.wait(INTERVAL_S)
        counted.append(set(MODELS) - _turn(delivery, intervals, rollouts))
    assert set.union(*counted) == set(MODELS)
    assert all(len(some) == MOST_MODELS for some in counted)


def test_candidates_of_a_model_are_counted_in_the_same_turn(delivery: Delivery) -> None:
    """They are compared with each other, so each must know as much as the others."""
    intervals = _intervals(delivery)
    rollouts = [_rollout(delivery, model, f"{model}-{n}") for model in MODELS for n in range(2)]
    _turn(delivery, intervals, rollouts)
    delivery.clock.wait(INTERVAL_S)
    behind = _turn(delivery, intervals, rollouts)
    for one in rollouts:
        assert intervals.is_behind(one) == (one.model in behind)


def test_the_first_turn_of_a_controller_counts_everything(delivery: Delivery) -> None:
    """It may have been long away; nothing is decided before what came meanwhile is counted."""
    rollouts = [_rollout(delivery, model) for model in MODELS]
    for model in MODELS:
        _ask(delivery, model, [1, 11])
    delivery.clock.wait(5 * INTERVAL_S)
    intervals = _intervals(delivery)
    assert _turn(delivery, intervals, rollouts) == set()
    delivery.clock.wait(INTERVAL_S)
    assert _turn(delivery, intervals, rollouts)
    intervals.forget()
    assert _turn(delivery, intervals, rollouts) == set()


@pytest.mark.parametrize("most_units", [rollout_intervals.MOST_UNITS, 2])
def test_what_is_remembered_counts_as_what_is_looked_up(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, most_units: int
) -> None:
    """A controller that goes on keeps the intervals of one that was restarted before each turn."""
    monkeypatch.setattr(rollout_intervals, "MOST_UNITS", most_units)
    going_on, chance = _intervals(delivery), random.Random(3)
    one, other = (_rollout(delivery, "m", name) for name in ("one", "other"))
    for _ in range(12):
        for _ in range(chance.randrange(3)):
            units = chance.sample(range(20), 12)
            _ask(delivery, "m", units, failing=chance.sample(units, 2))
            delivery.clock.wait(chance.randrange(INTERVAL_S))
        delivery.clock.wait(INTERVAL_S)
        _turn(delivery, going_on, [one])
        _turn(delivery, _intervals(delivery), [other])
    assert _kept(delivery, one) == _kept(delivery, other)
    assert sum(row.x_canary for row in _kept(delivery, one)) > 3


def test_what_could_not_be_kept_is_counted_again(delivery: Delivery) -> None:
    """A write that is refused closes nothing, and the rollout stays behind until one succeeds."""
    intervals, rollout = _intervals(delivery), _rollout(delivery, "m")
    _ask(delivery, "m", [1, 11])
    delivery.clock.wait(INTERVAL_S)
    intervals.look([rollout], delivery.clock.at_us, 0)
    with pytest.raises(Conflict):
        intervals.close(rollout, delivery.clock.at_us, delivery.token + 1)
    assert intervals.is_behind(rollout) and _kept(delivery, rollout) == []
    assert _turn(delivery, intervals, [rollout]) == set()
    assert _kept(delivery, rollout) == [Interval(1, 0, 1, 0)]


def test_an_interval_that_is_not_over_waits_for_nothing(delivery: Delivery) -> None:
    """Nobody is behind before the first interval is complete, however many began together."""
    intervals, rollouts = _intervals(delivery), [_rollout(delivery, model) for model in MODELS]
    _turn(delivery, intervals, rollouts[:1])
    delivery.clock.wait(INTERVAL_S - 1)
    assert _turn(delivery, intervals, rollouts) == set()
