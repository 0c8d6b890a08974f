"""Bugs that others' delivery tools had, each as a test of ours, named after where it was found.

What needs Ray, a proxy or a registry is tested where those run: the edge's polling in
``integration/serving/test_edge_shares.py``, a full queue in ``unit/serving/test_shadow.py``, an
alias that is deleted elsewhere in ``integration/test_aliases.py``.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from steelyard.domain.analysis import METRICS
from steelyard.domain.errors import Conflict, InvalidInput
from steelyard.domain.presets import PRESETS, ByHand, adapted
from steelyard.domain.rollout import OPEN
from steelyard.domain.rollout_plan import Plan, Step, check_plan, default_metrics
from steelyard.domain.rollout_plan_file import plan_of
from steelyard.domain.rollout_verbs import RULES
from steelyard.domain.traffic import BUCKETS, Route, Share, bucket, choose, in_order

from .conftest import Delivery

PLAN = adapted(
    PRESETS["fast"], ByHand((10, 50, 100), 60, 100, interval_s=10, label_maturity_s=0)
)  # fmt: skip
AT_ONCE = adapted(PRESETS["fast"], ByHand(weights=(100,)))


@pytest.fixture
def rolling(delivery: Delivery) -> Delivery:
    """Version 2 has its first 10 % beside version 1."""
    delivery.deploy()
    delivery.clock.wait(1)
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn()
    return delivery


def _promoted(delivery: Delivery, version: int) -> None:
    delivery.clock.wait(1)
    delivery.rollouts.start("m", version, AT_ONCE, "ada")
    delivery.turn()
    delivery.turn()
    assert delivery.rollouts.stable("m") == version


def test_ray_66253_a_canary_that_never_starts_leaves_stable_alone(delivery: Delivery) -> None:
    """Its failure ends the rollout; the weight table was not even written."""
    delivery.deploy()
    before = delivery.store.route("m")
    delivery.rollouts.start("m", 2, PLAN, "ada")
    for _ in range(3):
        assert delivery.turn(phase="starting").after.condition == "preparing"
    delivery.clock.wait(301)
    after = delivery.turn(phase="starting").after
    assert (after.condition, after.reason) == ("failed", "version 2 was not ready in 300 s")
    assert delivery.store.route("m") == before


def test_ray_66290_how_long_it_fails_to_start_survives_a_restart(
    delivery: Delivery, opened: Callable[[], Delivery]
) -> None:
    """The time is the rollout's, not the controller's: a new one does not begin to wait anew."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn(phase="starting")
    delivery.clock.wait(200)
    second = opened()
    assert second.turn(phase="starting").after.condition == "preparing"
    delivery.clock.wait(101)
    assert second.turn(phase="starting").after.condition == "failed"


def test_ray_63382_an_older_table_s_confirmation_is_no_success(rolling: Delivery) -> None:
    """The edge says that it uses the table before: the step's bake does not begin."""
    older = rolling.current().generation
    rolling.rollouts.act("m", "promote", "ada")
    rolling.rollouts.confirm("m", older, rolling.token)
    assert rolling.current().confirmed_us is None
    rolling.rollouts.confirm("m", rolling.current().generation, rolling.token)
    assert rolling.current().confirmed_us == rolling.clock.at_us


def test_ray_31762_the_phase_after_recovery_is_the_one_before(
    rolling: Delivery, opened: Callable[[], Delivery]
) -> None:
    """Also a paused one, with its reason."""
    rolling.rollouts.act("m", "pause", "ada", "lunch")
    before = rolling.current()
    assert opened().turn().after == before
    assert (before.condition, before.reason) == ("paused", "lunch")


def test_kserve_2130_no_route_is_left_after_twenty_rollouts(delivery: Delivery) -> None:
    """One table is in use, and it names the version that serves and no other."""
    delivery.deploy()
    for number in range(20):
        _promoted(delivery, 2 if number % 2 == 0 else 1)
    route = delivery.store.route("m")
    assert route is not None
    assert (route.stable, route.shares, route.generation) == (1, (), 42)


def test_argo_3756_a_paused_rollout_can_be_aborted(rolling: Delivery) -> None:
    """And the abort ends, with all traffic where it was."""
    rolling.rollouts.act("m", "pause", "ada")
    rolling.rollouts.act("m", "abort", "ada")
    assert rolling.turn().after.condition == "aborting"
    assert rolling.turn().after.condition == "degraded"
    route = rolling.store.route("m")
    assert route is not None and (route.stable, route.shares) == (1, ())


def test_argo_3316_every_open_condition_has_an_exit() -> None:
    """A verb that ends or moves it; aborting is left by the controller alone."""
    for condition in OPEN - {"aborting"}:
        exits = [verb for verb, rules in RULES.items() if condition in rules and verb != "pause"]
        assert "abort" in exits, condition


def test_argo_261_resuming_after_no_verdict_neither_loops_nor_sticks(rolling: Delivery) -> None:
    """It waits as long once more, and goes on as soon as it may."""
    plan = replace(PLAN, inconclusive_limit=3)
    rolling.rollouts.act("m", "abort", "ada")
    rolling.turn()
    rolling.turn()
    rolling.clock.wait(1)
    rolling.rollouts.start("m", 2, plan, "ada")
    rolling.turn()
    rolling.clock.wait(91)
    assert rolling.turn().after.cause == "inconclusive"
    rolling.rollouts.act("m", "resume", "ada")
    assert [rolling.turn().after.condition for _ in range(3)] == ["progressing"] * 3
    rolling.ask("canary", 100)
    rolling.ask("stable", 100)
    rolling.clock.wait(11)
    assert rolling.turn().after.step == 1


def test_argo_2866_a_pause_does_not_hinder_the_abort_of_a_bad_canary(rolling: Delivery) -> None:
    """Evidence against it counts while a person has paused it."""
    rolling.rollouts.act("m", "pause", "ada")
    rolling.ask("canary", 60, errors=40)
    rolling.ask("stable", 500)
    rolling.clock.wait(1)
    assert rolling.turn().after.condition == "aborting"


def test_flagger_1801_a_rollback_works_while_an_approval_is_awaited(delivery: Delivery) -> None:
    """The same verb as ever, and the same end."""
    delivery.deploy()
    delivery.clock.wait(1)
    steps = (PLAN.steps[0], replace(PLAN.steps[1], approval=True), PLAN.steps[2])
    delivery.rollouts.start("m", 2, replace(PLAN, steps=steps), "ada")
    delivery.turn()
    delivery.rollouts.act("m", "promote", "ada")
    assert delivery.current().condition == "awaiting_approval"
    delivery.rollouts.rollback("m", "ada", "no")
    assert [delivery.turn().after.condition for _ in range(2)] == ["aborting", "degraded"]
    assert delivery.store.open_rollout("m") is None
    assert delivery.rollouts.stable("m") == 1


@pytest.mark.parametrize("asked", [0, 5])
def test_flagger_1035_few_requests_neither_fail_nor_pass(rolling: Delivery, asked: int) -> None:
    """It holds and says how many are missing; one error of five is no verdict."""
    rolling.ask("canary", asked, errors=asked // 5)
    rolling.ask("stable", 10 * asked)
    rolling.clock.wait(600)
    after = rolling.turn().after
    assert (after.condition, after.step) == ("progressing", 0)
    assert after.reason == f"hold: needs {100 - asked} more canary requests"
    assert {v.judgement for v in rolling.turn().verdicts} == {"inconclusive"}


def test_flagger_1581_an_unknown_metric_is_refused() -> None:
    """Before anything moves, with the names that there are."""
    with pytest.raises(InvalidInput) as refused:
        plan_of({"metrics": [{"name": "error-rate", "required": True}]})
    assert ", ".join(METRICS) in str(refused.value.faults)


def test_flagger_1647_the_share_stays_as_repeat_users_come_back() -> None:
    """A tenth of all users, however often each asks, and always the same ones."""
    route = Route("m", 1, 1, (Share(2, 0, 1_000),), "r1")
    users = [f"user-{n}" for n in range(10_000)]
    first = [choose(route, bucket(b"secret", "r1", user)) for user in users]
    assert abs(first.count(("canary", 2)) - 1_000) < 150
    assert [choose(route, bucket(b"secret", "r1", user)) for user in users] == first


def test_flagger_1532_routers_in_a_row_agree() -> None:
    """Each computes the same integer from the same words; a higher weight moves nobody back."""
    (position,) = {bucket(b"secret", "r1", "ann") for _ in range(3)}
    weights = range(0, BUCKETS + 1, 500)
    arms = [
        choose(Route("m", 1, 1, in_order([Share(2, 0, weight)]), "r1"), position)[0]
        for weight in weights
    ]
    assert arms == sorted(arms, reverse=True) and arms[0] == "stable" and arms[-1] == "canary"


def test_truxify_10444_a_version_is_not_rolled_out_beside_itself(delivery: Delivery) -> None:
    """Nor rolled back to itself."""
    delivery.deploy()
    with pytest.raises(Conflict, match="has all traffic already"):
        delivery.rollouts.start("m", 1, PLAN, "ada")
    with pytest.raises(Conflict, match="no earlier version"):
        delivery.rollouts.rollback("m", "ada", "odd")


@pytest.mark.parametrize("table", ["promotion", "rollout_event"])
@pytest.mark.parametrize("change", ["update {} set reason = 'fine'", "delete from {}"])
def test_agri_3041_the_history_only_grows(delivery: Delivery, table: str, change: str) -> None:
    """The database itself refuses to change or to delete a row."""
    delivery.deploy()
    with pytest.raises(DBAPIError, match="append-only"), delivery.engine.begin() as connection:
        connection.execute(text(change.format(table)))
    assert delivery.store.first_break() is None


def test_kuberay_4989_there_and_back_makes_no_third_copy(delivery: Delivery) -> None:
    """1, 2, and back to 1: the tables name these two alone, and never one against itself."""
    delivery.deploy()
    _promoted(delivery, 2)
    delivery.clock.wait(1)
    undo = delivery.rollouts.rollback("m", "ada", "odd")
    assert (undo.stable, undo.candidate) == (2, 1)
    delivery.turn()
    delivery.turn()
    with delivery.engine.connect() as connection:
        pairs = connection.execute(text("select stable, canary from traffic_intent")).all()
    assert {tuple(pair) for pair in pairs} <= {(1, None), (1, 2), (2, None), (2, 1)}


def test_clearml_publishing_a_version_moves_no_traffic(delivery: Delivery) -> None:
    """Versions 2 and 3 are registered all the while; without a rollout there is no turn."""
    delivery.deploy()
    before = delivery.store.route("m")
    turns = delivery.rollouts.turns.all({}, 0, delivery.token)
    assert turns == () and delivery.store.route("m") == before


def test_sagemaker_exclusions_nothing_falls_back_to_all_at_once() -> None:
    """A plan without steps, or without proof, is refused and not replaced by another."""
    for plan in (Plan((), default_metrics()), Plan((Step(500), Step(BUCKETS)), ())):
        with pytest.raises(InvalidInput):
            check_plan(plan)


def test_sagemaker_pooled_alarm_ten_times_the_errors_at_five_per_cent_are_found(
    delivery: Delivery,
) -> None:
    """Over both versions together they are 1.45 % instead of 1 %: nobody would see it."""
    delivery.deploy()
    delivery.clock.wait(1)
    plan = adapted(PLAN, ByHand(weights=(5, 50, 100)))
    delivery.rollouts.start("m", 2, plan, "ada")
    delivery.turn()
    delivery.ask("stable", 1_900, errors=19)
    delivery.ask("canary", 100, errors=10)
    delivery.clock.wait(21)
    after = delivery.turn().after
    assert after.condition == "aborting"
    assert "canary 10/100, stable 19/1900: failed" in after.reason
