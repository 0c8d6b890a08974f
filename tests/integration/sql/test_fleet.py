"""All models at once say what each of them says when it is asked alone."""

import random
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.operations import OperationStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.operation import Drain
from steelyard.domain.promotion import CHAMPION, Change, Promotion, stable_version
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, Step
from steelyard.domain.rollout_record import Move, Stored
from steelyard.domain.traffic import Route

pytestmark = pytest.mark.integration
PLAN = Plan((Step(10_000),), ())
MODELS = [f"m{n}" for n in range(4)]


@pytest.fixture
def store(engine: Engine) -> RolloutStore:
    """Models of which each was deployed to another version again and again, some now."""
    store, chosen = RolloutStore(engine), random.Random(5)
    for at_us in range(1, 45):
        model = chosen.choice(MODELS[:3])
        if any(one.rollout.is_open for one in store.rollouts(model)):
            _end(store, model, at_us, chosen.choice([True, True, False]))
        else:
            live = store.route(model)
            rollout = Rollout(f"r{at_us}", model, "canary", live.stable if live else 1, 2 + at_us,
                              PLAN, f"r{at_us}", at_us, "ada")  # fmt: skip
            store.create([(rollout, Change("ada", "start"))])
    return store


def _end(store: RolloutStore, model: str, at_us: int, well: bool) -> None:
    (opened,) = store.open_rollouts(model)
    after = replace(opened.rollout, condition="healthy" if well else "degraded", ended_us=at_us)
    assert after.stable is not None
    route = Route(model, after.candidate if well else after.stable, 0)
    store.move([Move(opened, after, Change("ada", "end"))], at_us, seen=[opened], route=route)
    if well and at_us % 3:  # a crash left the others out
        store.promote(Promotion(at_us, model, CHAMPION, 1, after.candidate, "ada", "promote", "",
                                after.rollout_id, "d" * 64))  # fmt: skip


def test_each_model_s_answer_is_its_own(store: RolloutStore) -> None:
    """Stable, weight table and rollouts; a model that was never deployed is not among them."""
    fleet = store.fleet
    models = store.models()
    assert len(models) == 3
    stable = {model: stable_version(store.promotions(model)) for model in models}
    assert fleet.stable() == {model: one for model, one in stable.items() if one is not None}
    routes = {model: store.route(model) for model in models}
    assert fleet.routes() == {model: route for model, route in routes.items() if route}
    for most in (1, 3, 100):
        assert fleet.rollouts(most) == {model: store.rollouts(model, most) for model in models}


def test_what_a_crash_left_out_of_the_history_is_found(store: RolloutStore) -> None:
    """Healthy rollouts without a row there, the oldest first; then none."""

    def missing() -> list[Stored]:
        known = {p.rollout_id for model in MODELS for p in store.promotions(model)}
        every = [one for model in MODELS for one in store.rollouts(model)]
        healthy = [one for one in every if one.rollout.condition == "healthy"]
        return sorted((one for one in healthy if one.rollout.rollout_id not in known),
                      key=lambda one: one.rollout.created_us)  # fmt: skip

    found = store.fleet.without_promotion()
    assert found == missing() and found
    for one in found:
        store.promote(Promotion(99, one.rollout.model, CHAMPION, 1, 2, "controller", "promote", "",
                                one.rollout.rollout_id, "d" * 64))  # fmt: skip
    assert store.fleet.without_promotion() == missing() == []


def test_what_rollouts_wait_for_is_told_of_all_at_once(store: RolloutStore) -> None:
    """Whoever was changed meanwhile keeps its own reason, and nobody's next change is hindered."""
    token = store.leases.acquire("controller", "one", 1_000, 100)
    assert token is not None
    opened = store.all_open()
    assert len(opened) > 1
    moves = [Move(one, replace(one.rollout, reason="baking"), Change("controller", "wait"))
             for one in opened]  # fmt: skip
    by_hand = replace(opened[0].rollout, condition="paused", reason="lunch")
    store.save(opened[0], by_hand, Change("ada", "pause"), 50)
    events = [len(store.events(one.rollout.rollout_id)) for one in opened]
    store.tell(moves, token)
    told = {one.rollout.rollout_id: one for one in store.all_open()}
    assert told[by_hand.rollout_id].rollout.reason == "lunch"
    for one in opened[1:]:
        found = told[one.rollout.rollout_id]
        assert (found.rollout.reason, found.row_version) == ("baking", one.row_version)
    assert [len(store.events(one.rollout.rollout_id)) for one in opened] == events


def test_versions_taken_out_of_service_are_known_by_model(engine: Engine) -> None:
    """The last time of each counts."""
    store = OperationStore(engine)
    assert store.drained() == {}
    for at_us, (model, version) in enumerate([("a", 1), ("a", 2), ("b", 1), ("a", 1)], 1):
        store.drain(Drain(model, version, "ada", "", at_us))
    assert store.drained() == {"a": {1: 4, 2: 2}, "b": {1: 3}}
