"""Rollouts whose candidate answers unseen first, and whose old version does so afterwards."""

from dataclasses import replace

from steelyard.adapters.sql.labels import LabelStore
from steelyard.domain.analysis import Metric
from steelyard.domain.operation import shadows_of
from steelyard.domain.presets import PRESETS, ByHand, adapted
from steelyard.domain.rollout_plan import Plan, Step
from steelyard.domain.serving_snapshot import Shadow
from steelyard.services.explanations import Explanations

from .conftest import Delivery

PLAN = replace(
    adapted(PRESETS["fast"], ByHand((50, 100), 60, 100, interval_s=10, label_maturity_s=0)),
    steps=(Step(0, 60.0, 100, shadow_bp=5_000), Step(5_000, 60.0, 100), Step(10_000)),
    metrics=(Metric("errors", floor=0.05, required=True), Metric("paired"),
             Metric("disagreement", limit=0.1, required=True)),
    probation_s=600.0, reverse_shadow_bp=500,
)  # fmt: skip


def begun(delivery: Delivery, plan: Plan = PLAN) -> None:
    """A rollout of version 2 beside version 1 that has reached its first step."""
    delivery.deploy()
    delivery.clock.wait(1)
    delivery.rollouts.start("m", 2, plan, "ada")
    delivery.turn()


def labelled(delivery: Delivery, predictions: list[str]) -> None:
    """Class 0 was right."""
    rows = [(name, [0]) for name in predictions]
    LabelStore(delivery.engine).add(rows, "ada", delivery.clock.at_us)


def all_hold(delivery: Delivery) -> bool:
    """Whether every decision is made again on its evidence."""
    newest = delivery.store.rollouts("m")[0].rollout
    decisions = Explanations(delivery.store).of(newest)
    assert any(one.holds for one in decisions)
    return all(one.holds is not False for one in decisions)


def test_a_candidate_that_answers_alike_meets_clients(delivery: Delivery) -> None:
    """Copies are its first step's requests; the limit is proven before it has any weight."""
    begun(delivery)
    route = delivery.store.route("m")
    assert route is not None and (route.stable, route.shares) == (1, ())
    assert route.lineage == delivery.current().lineage
    delivery.repeat(99)
    delivery.clock.wait(61)
    assert delivery.turn().after.reason == "hold: needs 1 more answers in the shadow"
    delivery.repeat(101, canary_wrong=2)
    delivery.clock.wait(11)
    after = delivery.turn().after
    assert (after.step, after.weight_bp) == (1, 5_000)
    assert all_hold(delivery)


def test_a_candidate_that_answers_otherwise_never_meets_a_client(delivery: Delivery) -> None:
    """It is over in the shadow: no table ever gave it a bucket, and stable is what it was."""
    begun(delivery)
    delivery.repeat(100, canary_wrong=40)
    delivery.clock.wait(11)
    after = delivery.turn().after
    assert (after.condition, after.weight_bp) == ("degraded", 0)
    assert "disagreement: 40 of 100 pairs differ (40 %), limit 10 %: failed" in after.reason
    for generation in range(1, after.generation + 1):
        table = delivery.store.intent("m", generation)
        assert table is not None and table["weight_bp"] == 0
    assert delivery.rollouts.stable("m") == 1
    assert delivery.store.open_rollout("m") is None
    assert all_hold(delivery)


def test_a_candidate_that_fails_its_copies_is_caught_by_the_guard(delivery: Delivery) -> None:
    """Ten in a row while stable is well need no statistics, although no client was hurt."""
    begun(delivery)
    delivery.repeat(10, status=500)
    delivery.clock.wait(1)
    after = delivery.turn().after
    assert after.condition == "degraded"
    assert after.reason == "guard: the canary's last 10 requests failed, of 10 units"


def test_a_bad_version_is_found_by_the_old_one_s_answers(delivery: Delivery) -> None:
    """At 100 % it alone is wrong more often, as labels show: all traffic goes back."""
    begun(delivery, replace(PLAN, steps=(Step(5_000), Step(10_000))))
    delivery.rollouts.act("m", "promote_full", "ada")
    delivery.turn()
    assert delivery.turn().after.condition == "probation"
    delivery.repeat(100, canary_wrong=9)
    delivery.clock.wait(20)
    assert delivery.turn().after.condition == "probation"  # nobody has said yet who is right
    labelled(delivery, delivery.repeat(100, canary_wrong=9))
    delivery.clock.wait(20)
    after = delivery.turn().after
    assert (after.condition, after.weight_bp) == ("aborting", 0)
    assert "paired: in 100 pairs only the canary was wrong 9 times, only stable 0" in after.reason
    assert delivery.turn().after.condition == "degraded"
    assert delivery.rollouts.stable("m") == 1
    assert all_hold(delivery)


def test_an_aborted_shadow_step_can_be_tried_again(delivery: Delivery) -> None:
    """Its end needs no weight to be given back, and leaves nothing open."""
    begun(delivery)
    ended = delivery.rollouts.act("m", "abort", "ada", "not today")
    assert (ended.condition, ended.reason) == ("degraded", "not today")
    again = delivery.rollouts.retry("m", "ada")
    assert again.lineage == ended.lineage
    assert delivery.turn().after.step == 0


def test_several_candidates_repeat_the_same_requests(delivery: Delivery) -> None:
    """Each by its own copies; one that answers otherwise ends and leaves the other in its place."""
    delivery.deploy()
    delivery.clock.wait(1)
    delivery.rollouts.start_together("m", (2, 4), PLAN, "ada")
    delivery.turns()
    alike, otherwise = (one.rollout for one in delivery.store.all_open())
    assert shadows_of(None, (alike, otherwise)) == (Shadow(2, 5_000), Shadow(4, 5_000))
    delivery.repeat(200, rollout=alike)
    delivery.repeat(200, 80, rollout=otherwise)
    delivery.clock.wait(61)
    delivery.turns()
    (left,) = delivery.store.all_open()
    assert (left.rollout.candidate, left.rollout.step) == (2, 1)
    route = delivery.store.route("m")
    assert route is not None and [share.version for share in route.shares] == [2]
