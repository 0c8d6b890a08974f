from collections.abc import Callable
from dataclasses import replace

import pytest

from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.errors import Conflict, InvalidInput, NotFound, Refused
from steelyard.domain.presets import PRESETS, ByHand, adapted
from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_record import Stored
from steelyard.services.rollout_moves import write

from .conftest import Delivery

PLAN = adapted(
    PRESETS["fast"],
    ByHand((10, 50, 100), 60, 100, interval_s=10, label_maturity_s=0, keep_warm_s=600),
)
AT_ONCE = adapted(PRESETS["fast"], ByHand(weights=(100,), keep_warm_s=600))
BACKWARDS = adapted(PRESETS["fast"], ByHand(weights=(50, 10)))


def test_a_first_deployment_takes_all_traffic_when_ready(delivery: Delivery) -> None:
    """Without steps, but not before its version answers."""
    delivery.rollouts.deploy("m", 1, "ada")
    assert delivery.turn(phase="starting").after.condition == "preparing"
    assert delivery.store.route("m") is None
    assert delivery.rollouts.stable("m") is None
    delivery.turn()
    delivery.turn()
    assert delivery.rollouts.stable("m") == 1
    route = delivery.store.route("m")
    assert route is not None and (route.stable, route.shares) == (1, ())


def test_a_model_is_deployed_once(delivery: Delivery) -> None:
    """While it is being deployed and afterwards; the hint says how to change the version."""
    delivery.rollouts.deploy("m", 1, "ada")
    with pytest.raises(Conflict, match="open already"):
        delivery.rollouts.deploy("m", 2, "ada")
    delivery.turn()
    delivery.turn()
    with pytest.raises(Conflict, match="serves version 1 already") as refused:
        delivery.rollouts.deploy("m", 2, "ada")
    assert "steelyard rollout start m/2" in refused.value.hint


def test_an_unknown_version_is_not_deployed(delivery: Delivery) -> None:
    """And leaves nothing behind."""
    with pytest.raises(NotFound):
        delivery.rollouts.deploy("m", 9, "ada")
    assert delivery.store.open_rollout("m") is None


def test_a_rollout_needs_something_beside_it(delivery: Delivery) -> None:
    """Nothing is deployed yet; the hint says how."""
    with pytest.raises(Conflict, match="not deployed yet") as refused:
        delivery.rollouts.start("m", 2, PLAN, "ada")
    assert "steelyard deploy m/2" in refused.value.hint


def test_a_rollout_that_makes_no_sense_is_refused(delivery: Delivery) -> None:
    """Without evidence, of the version that has all traffic, with a bad plan, beside another."""
    delivery.deploy()
    with pytest.raises(Refused, match="no measured evidence") as refused:
        delivery.rollouts.start("m", 3, PLAN, "ada")
    assert "No evidence, no traffic" in refused.value.hint
    with pytest.raises(Conflict, match="has all traffic already"):
        delivery.rollouts.start("m", 1, PLAN, "ada")
    with pytest.raises(InvalidInput):
        delivery.rollouts.start("m", 2, BACKWARDS, "ada")
    delivery.rollouts.start("m", 2, PLAN, "ada")
    with pytest.raises(Conflict, match="open already"):
        delivery.rollouts.start("m", 2, PLAN, "ada")


def test_a_verb_needs_a_rollout(delivery: Delivery) -> None:
    """A model that never had one; the hint says how to begin."""
    with pytest.raises(NotFound, match="never deployed or rolled out") as refused:
        delivery.rollouts.act("m", "pause", "ada")
    assert "steelyard deploy m/1" in refused.value.hint


def test_a_good_canary_takes_over_step_by_step(delivery: Delivery) -> None:
    """Bake, requests, proof, all traffic, one promotion; then the tables carry no canary."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    assert delivery.turn().after.weight_bp == 1_000
    delivery.ask("stable", 900)
    delivery.ask("canary", 99)
    delivery.clock.wait(61)
    assert "needs 1 more canary requests" in delivery.turn().after.reason
    delivery.ask("canary", 1)
    assert delivery.turn().after.weight_bp == 5_000
    delivery.ask("canary", 200)
    delivery.clock.wait(61)
    assert "errors not proven" in delivery.turn().after.reason
    delivery.ask("canary", 400)
    delivery.clock.wait(20)
    assert delivery.turn().after.condition == "promoting"
    assert delivery.turn().after.condition == "healthy"
    assert [(p.verb, p.from_version, p.to_version) for p in delivery.store.promotions("m")] == [
        ("deploy", None, 1), ("promote", 1, 2),
    ]  # fmt: skip
    route = delivery.store.route("m")
    assert route is not None and (route.stable, route.shares) == (2, ())
    assert delivery.store.first_break() is None


def test_a_bad_canary_is_taken_back(delivery: Delivery) -> None:
    """Its errors speak before the bake is over; stable keeps its traffic and its name."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn()
    delivery.ask("stable", 900, errors=5)
    delivery.ask("canary", 100, errors=30)
    delivery.clock.wait(11)
    after = delivery.turn().after
    assert (after.condition, after.weight_bp) == ("aborting", 0)
    assert "canary 30/100, stable 5/900: failed" in after.reason
    assert delivery.turn().after.condition == "degraded"
    assert delivery.rollouts.stable("m") == 1
    assert delivery.store.open_rollout("m") is None
    verbs = [e["to_condition"] for e in delivery.store.events(after.rollout_id)]
    assert verbs == ["preparing", "progressing", "aborting", "degraded"]


def test_a_canary_that_stops_answering_is_taken_back(delivery: Delivery) -> None:
    """Health needs no statistics; before the first step it ends without any table."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn()
    assert delivery.turn(phase="unhealthy").after.condition == "aborting"
    delivery.turn()
    before = delivery.store.route("m")
    delivery.rollouts.start("m", 2, PLAN, "ada")
    assert delivery.turn(phase="failed").after.condition == "failed"
    assert delivery.store.route("m") == before


def test_a_rollback_aborts_what_is_open(delivery: Delivery) -> None:
    """One verb for "give me the last good one", whatever goes on."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn()
    after = delivery.rollouts.rollback("m", "ada", "looks odd")
    assert (after.condition, after.reason) == ("aborting", "looks odd")
    route = delivery.store.route("m")
    assert route is not None and route.stable_bp == 10_000


def test_a_rollback_returns_to_the_last_good_version(delivery: Delivery) -> None:
    """The newest earlier version that earned all traffic, not one that was aborted."""
    delivery.deploy(1)
    with pytest.raises(Conflict, match="no earlier version"):
        delivery.rollouts.rollback("m", "ada", "odd")
    delivery.rollouts.start("m", 2, AT_ONCE, "ada")
    delivery.turn()
    delivery.turn()
    assert delivery.rollouts.stable("m") == 2
    undo = delivery.rollouts.rollback("m", "bob", "worse in the field")
    assert (undo.kind, undo.stable, undo.candidate) == ("undo", 2, 1)
    delivery.turn()
    delivery.turn()
    assert delivery.rollouts.stable("m") == 1
    assert delivery.store.promotions("m")[-1].verb == "undo"


class Meanwhile(RolloutStore):
    """The store, where the controller has a turn after somebody looked which rollout is open."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.engine)
        self._delivery = delivery

    def open_rollout(self, model: str) -> Stored | None:
        """The open one, which has moved on when the answer comes."""
        found = super().open_rollout(model)
        self._delivery.turn()
        return found


def test_a_rollback_undoes_what_just_took_all_traffic(delivery: Delivery) -> None:
    """The candidate was promoted in the moment before it would have been aborted."""
    delivery.deploy(1)
    delivery.rollouts.start("m", 2, AT_ONCE, "ada")
    delivery.turn()
    delivery.rollouts.store = Meanwhile(delivery)
    undo = delivery.rollouts.rollback("m", "bob", "worse in the field")
    assert (undo.kind, undo.stable, undo.candidate) == ("undo", 2, 1)


def test_a_rollback_leaves_it_at_what_was_just_taken_back(delivery: Delivery) -> None:
    """The candidate lost all traffic by itself, so the version before stable is not meant."""
    delivery.deploy(1)
    delivery.rollouts.start("m", 2, AT_ONCE, "ada")
    delivery.turn()
    delivery.turn()
    delivery.rollouts.start("m", 4, PLAN, "ada")
    delivery.turn()
    delivery.rollouts.act("m", "abort", "eve")
    delivery.turn()
    delivery.rollouts.store = Meanwhile(delivery)
    ended = delivery.rollouts.rollback("m", "bob", "worse in the field")
    assert (ended.candidate, ended.condition) == (4, "degraded")
    assert delivery.store.open_rollout("m") is None


def test_a_restarted_controller_goes_on_where_it_was(opened: Callable[[], Delivery]) -> None:
    """Same step, same weight table, and the bake does not start again."""
    first = opened()
    first.deploy()
    first.rollouts.start("m", 2, PLAN, "ada")
    first.turn()
    first.turn()
    before = first.current()
    assert before.confirmed_us is not None
    first.clock.wait(30)
    second = opened()
    after = second.turn().after
    assert (after.step, after.generation, after.confirmed_us) == (
        before.step, before.generation, before.confirmed_us,
    )  # fmt: skip
    assert "baking at 10 %, 30 s left" in after.reason


def test_a_table_that_was_not_confirmed_before_a_crash_is_confirmed_after(
    opened: Callable[[], Delivery],
) -> None:
    """The intent is durable; only the confirmation is missing, and no second table is made."""
    first = opened()
    first.deploy()
    first.rollouts.start("m", 2, PLAN, "ada")
    intended = first.turn(confirm=False).after
    second = opened()
    assert second.current() == intended
    second.clock.wait(500)
    second.turn()
    found = second.current()
    assert (found.generation, found.confirmed_us) == (intended.generation, second.clock.at_us)


def test_a_promotion_that_a_crash_left_out_is_made_up_for(opened: Callable[[], Delivery]) -> None:
    """The history has it once, however often the repair runs."""
    delivery = opened()
    delivery.deploy()
    delivery.rollouts.complete_promotions(delivery.token)
    assert [p.to_version for p in delivery.store.promotions("m")] == [1]
    rollout = delivery.rollouts.start("m", 2, AT_ONCE, "ada")
    delivery.turn()
    stored = delivery.store.open_rollout("m")
    assert stored is not None
    _crash_before_promotion(delivery, rollout)
    restarted = opened()
    assert restarted.rollouts.stable("m") == 1
    for _ in range(2):
        restarted.rollouts.complete_promotions(restarted.token)
    assert [p.to_version for p in restarted.store.promotions("m")] == [1, 2]


def test_nothing_is_tried_again_beside_a_version_that_lost_all_traffic(
    delivery: Delivery,
) -> None:
    """The next one took it, and a crash left that out of the history."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.rollouts.act("m", "abort", "ada")
    rollout = delivery.rollouts.start("m", 4, AT_ONCE, "ada")
    delivery.turn()
    _crash_before_promotion(delivery, rollout)
    with pytest.raises(Conflict, match="stable is version 4 now"):
        delivery.rollouts.retry("m", "ada", version=2)


def _crash_before_promotion(delivery: Delivery, rollout: Rollout) -> None:
    """What ``reconcile`` writes up to the moment before the promotion."""
    stored = delivery.store.open_rollout("m")
    assert stored is not None and stored.rollout.rollout_id == rollout.rollout_id
    ended = replace(stored.rollout, condition="healthy", ended_us=delivery.clock.at_us)
    name, change = rollout.rollout_id, Change("controller", "advance")
    write(delivery.store, [stored], {name: ended}, {name: change}, "controller",
          delivery.clock.at_us, delivery.token)  # fmt: skip


def test_who_has_all_traffic_runs_before_the_history_has_it(delivery: Delivery) -> None:
    """Also in the moment between the end of its rollout and the row of its promotion."""
    delivery.deploy()
    rollout = delivery.rollouts.start("m", 2, AT_ONCE, "ada")
    assert delivery.operations.desired("m").versions == {1: "stable", 2: "candidate"}
    delivery.turn()
    _crash_before_promotion(delivery, rollout)
    assert delivery.rollouts.stable("m") == 1
    assert delivery.operations.desired("m").versions == {1: "warm", 2: "stable"}


def test_a_pause_survives_the_controller_s_turns(delivery: Delivery) -> None:
    """Until a person resumes or promotes; full promotion needs no proof but readiness."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn()
    delivery.rollouts.act("m", "pause", "ada")
    delivery.clock.wait(1_000)
    assert delivery.turn().after.condition == "paused"
    delivery.rollouts.act("m", "resume", "ada")
    assert delivery.current().condition == "progressing"
    delivery.rollouts.act("m", "promote_full", "ada")
    route = delivery.store.route("m")
    assert route is not None and route.stable_bp == 0
    delivery.turn(confirm=True)
    delivery.turn()
    assert delivery.rollouts.stable("m") == 2
