import random
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.predictions import PredictionStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.e_process import Interval
from steelyard.domain.errors import Conflict
from steelyard.domain.promotion import Change, Promotion
from steelyard.domain.rollout import Plan, Rollout, Step, default_metrics
from steelyard.domain.traffic import Route

pytestmark = pytest.mark.integration

PLAN = Plan((Step(500, 60.0, 10), Step(10_000)), default_metrics())
CHANGE = Change("ada", "start")


@pytest.fixture
def store(engine: Engine) -> RolloutStore:
    """An empty store."""
    return RolloutStore(engine)


def _rollout(rollout_id: str = "r1", model: str = "m") -> Rollout:
    return Rollout(rollout_id, model, "canary", 1, 2, PLAN, rollout_id, 1_000, "ada")


def _route(weight_bp: int = 500) -> Route:
    return Route("m", 1, 0, 2, weight_bp, "r1")


def test_a_rollout_comes_back_as_it_was_written(store: RolloutStore) -> None:
    """Plan, steps and metrics included."""
    store.create(_rollout(), CHANGE)
    found = store.open_rollout("m")
    assert found is not None and found.rollout == _rollout()


def test_a_model_has_one_open_rollout(store: RolloutStore) -> None:
    """A second one is refused until the first has ended; other models are free."""
    first = store.create(_rollout(), CHANGE)
    store.create(_rollout("r2", "other"), CHANGE)
    with pytest.raises(Conflict, match="open already"):
        store.create(_rollout("r3"), CHANGE)
    ended = replace(first.rollout, condition="degraded", ended_us=2_000)
    store.save(first, ended, Change("ada", "abort"), 2_000)
    store.create(_rollout("r3"), CHANGE)
    assert {s.rollout.rollout_id for s in store.rollouts("m")} == {"r1", "r3"}


def test_two_writers_do_not_overwrite_each_other(store: RolloutStore) -> None:
    """Whoever read first and writes last is told to look again."""
    stored = store.create(_rollout(), CHANGE)
    paused = replace(stored.rollout, condition="paused")
    store.save(stored, paused, Change("ada", "pause"), 2_000)
    with pytest.raises(Conflict, match="changed meanwhile"):
        store.save(stored, paused, Change("bob", "pause"), 2_001, _route())
    assert store.route("m") is None
    assert [e["actor"] for e in store.events("r1")] == ["ada", "ada"]


def test_a_controller_that_lost_its_lease_writes_nothing(store: RolloutStore) -> None:
    """A second controller takes over after the time is up; the first one's number is refused."""
    stored = store.create(_rollout(), CHANGE)
    first = store.acquire_lease("controller", "one", 1_000, 100)
    assert store.acquire_lease("controller", "two", 1_050, 100) is None
    assert store.acquire_lease("controller", "one", 1_050, 100) == first
    second = store.acquire_lease("controller", "two", 1_200, 100)
    assert first is not None and second is not None and second > first
    after = replace(stored.rollout, condition="progressing", step=0, weight_bp=500)
    with pytest.raises(Conflict, match="lease"):
        store.save(stored, after, CHANGE, 1_201, _route(), token=first)
    assert store.save(stored, after, CHANGE, 1_202, _route(), token=second).row_version == 2


def test_the_number_of_a_weight_table_only_grows(store: RolloutStore) -> None:
    """Going back to an earlier weight is a new table, and a later rollout goes on counting."""
    stored = store.create(_rollout(), CHANGE)
    numbers = []
    for weight in (500, 2_500, 500, 0):
        after = replace(stored.rollout, condition="progressing", step=0, weight_bp=weight)
        stored = store.save(stored, after, CHANGE, 2_000, _route(weight))
        numbers.append(stored.rollout.generation)
    ended = replace(stored.rollout, condition="degraded", ended_us=3_000)
    store.save(stored, ended, CHANGE, 3_000)
    later = store.create(_rollout("r2"), CHANGE)
    after = replace(later.rollout, condition="progressing", step=0, weight_bp=500)
    numbers.append(store.save(later, after, CHANGE, 4_000, _route()).rollout.generation)
    assert numbers == [1, 2, 3, 4, 5]
    route = store.route("m")
    assert route is not None and (route.generation, route.weight_bp) == (5, 500)
    intent = store.intent("m", 2)
    assert intent is not None and intent["weight_bp"] == 2_500


def test_only_a_change_of_course_is_an_event(store: RolloutStore) -> None:
    """A new reason while baking is not history; a new weight is."""
    stored = store.create(_rollout(), CHANGE)
    stored = store.save(stored, replace(stored.rollout, reason="waiting"), CHANGE, 2_000)
    after = replace(stored.rollout, condition="progressing", step=0, weight_bp=500)
    store.save(stored, after, CHANGE, 3_000, _route())
    assert [e["to_condition"] for e in store.events("r1")] == ["preparing", "progressing"]


def _promotion(rollout_id: str, version: int) -> Promotion:
    return Promotion(5, "m", "champion", None, version, "ada", "deploy", "", rollout_id, "d" * 64)


def test_a_rollout_is_promoted_once(store: RolloutStore) -> None:
    """Repeating a promotion after a crash adds no second row to the history."""
    for rollout_id, version in (("r1", 1), ("r1", 1), ("r2", 2), ("r1", 1)):
        store.promote(_promotion(rollout_id, version))
    assert [p.to_version for p in store.promotions("m")] == [1, 2]


@pytest.mark.parametrize(
    ("table", "change"), [("rollout_event", "actor = 'eve'"), ("promotion", "to_version = 9")]
)
def test_a_changed_history_is_named(
    store: RolloutStore, engine: Engine, table: str, change: str
) -> None:
    """Events and promotions are chained like entries; the first changed row is named."""
    store.create(_rollout(), CHANGE)
    store.create(_rollout("r2", "other"), CHANGE)
    store.promote(_promotion("r1", 1))
    store.promote(_promotion("r2", 2))
    assert store.first_break() is None
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"alter table {table} disable trigger user"))
        else:
            connection.execute(text(f"drop trigger {table}_no_update"))
        connection.execute(text(f"update {table} set {change} where seq = 2"))
    found = store.first_break()
    assert found is not None and (found[0], found[1].seq) == (table, 2)


def test_observations_are_kept_as_first_seen(store: RolloutStore) -> None:
    """A closed interval is evidence; a second look with other counts does not move it."""
    store.observe("r1", "errors", {(1, 0): Interval(10, 1, 90, 1)}, 1)
    store.observe("r1", "errors", {(1, 0): Interval(99, 9, 9, 9), (1, 60): Interval(1, 0, 9, 0)}, 2)
    assert store.observations("r1") == {
        "errors": [Interval(10, 1, 90, 1), Interval(1, 0, 9, 0)]
    }  # fmt: skip
    assert store.observed_until("r1", "errors") == 60
    assert store.observed_until("r1", "labels") is None


def _predictions(count: int) -> list[PredictionRecord]:
    dice = random.Random(3)
    arms: list[ArmName] = ["stable", "canary", "pinned"]
    return [
        PredictionRecord(
            f"p-{n}", "m", 2, "d" * 64, "serve/m/2/0", dice.choice(arms),
            dice.choice(["r1", "r1", "old"]), dice.choice([1, 2]), n % 10_000,
            dice.randrange(1_000, 7_000), 5, 1, dice.choice([200, 200, 400, 500, 503, 504]),
            classes=(dice.randrange(2),),
        )
        for n in range(count)
    ]  # fmt: skip


def test_a_label_is_kept_as_first_given(engine: Engine) -> None:
    """Sending labels again is harmless, also with another class."""
    predictions = PredictionStore(engine)
    FactStore(engine).ingest(_predictions(3), 1)
    assert predictions.add_labels({"p-0": [1], "p-1": [0]}, "ada", 5) == (2, 0)
    assert predictions.add_labels({"p-0": [0], "p-2": [0]}, "ada", 6) == (1, 1)
    found = predictions.prediction("p-0")
    assert found is not None and found["label_classes"] == "[1]"


@pytest.mark.parametrize("labelled", [False, True])
def test_intervals_count_what_was_answered(engine: Engine, labelled: bool) -> None:
    """SQL groups as a plain count does: whole intervals, both arms, this rollout only.

    A key's limits that cannot be kept and a client's time that is over are no version's errors.
    """
    records = _predictions(400)
    predictions = PredictionStore(engine)
    FactStore(engine).ingest(records, 1)
    truth = {r.prediction_id: [0] for r in records[:250]}
    predictions.add_labels(truth, "ada", 5)
    count = predictions.label_intervals if labelled else predictions.error_intervals
    found = count("m", "r1", 1_000, 700, 1_700, 6_600)
    expected: dict[tuple[int, int], list[int]] = {}
    for r in records:
        unlabelled = labelled and r.prediction_id not in truth
        outside = r.lineage != "r1" or r.arm == "pinned" or not 1_700 <= r.received_us < 6_600
        if unlabelled or outside:
            continue
        event = r.classes != (0,) if labelled else r.status == 500
        start = 1_000 + (r.received_us - 1_000) // 700 * 700
        cell = expected.setdefault((r.generation, start), [0, 0, 0, 0])
        side = 0 if r.arm == "canary" else 2
        cell[side] += 1
        cell[side + 1] += event
    assert found == {key: Interval(*cell) for key, cell in expected.items()}
    assert predictions.canary_requests("m", "r1", 2) == sum(
        r.lineage == "r1" and r.arm == "canary" and r.generation == 2 for r in records
    )
