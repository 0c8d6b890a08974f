"""Several versions beside stable at once: who grows where, who wins, and how the others end."""

from dataclasses import replace

import pytest

from steelyard.domain.analysis import Metric
from steelyard.domain.errors import Conflict, InvalidInput, NotFound
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Candidate, Plan, Step
from steelyard.domain.traffic import Share

from .conftest import Delivery

METRICS = (Metric("errors", floor=0.1, required=True),)
PLAN = Plan(
    (Step(1_000, 60.0, 20), Step(5_000, 60.0, 20), Step(10_000)), METRICS, interval_s=10.0,
    winner="errors",
)  # fmt: skip


@pytest.fixture
def deployed(delivery: Delivery) -> Delivery:
    """Version 1 has all traffic."""
    delivery.deploy()
    delivery.clock.wait(1)
    return delivery


def _open(delivery: Delivery) -> dict[int, Rollout]:
    found = delivery.store.open_rollouts("m")
    return {stored.rollout.candidate: stored.rollout for stored in found}


def _shares(delivery: Delivery) -> tuple[Share, ...]:
    route = delivery.store.route("m")
    assert route is not None
    return route.shares


def _asked(delivery: Delivery, errors: dict[int, int]) -> None:
    """Users ask every candidate 200 times; ``errors`` of them fail, and 2 % of stable's."""
    for rollout in _open(delivery).values():
        delivery.ask("canary", 200, errors.get(rollout.candidate, 0), rollout=rollout)
    delivery.ask("stable", 600, 12)
    delivery.clock.wait(61)


def _proven(delivery: Delivery, plan: Plan, errors: dict[int, int]) -> None:
    """Versions 2 and 4 go through their own steps; the next turn may choose."""
    delivery.rollouts.start_together("m", (2, 4), plan, "ada")
    delivery.turns()
    _asked(delivery, errors)
    delivery.turns()
    _asked(delivery, errors)


def test_each_candidate_grows_in_its_own_region(deployed: Delivery) -> None:
    """A step is a share of the region; what nobody has is stable's."""
    plan = replace(PLAN, candidates=(Candidate(2, 5_000), Candidate(4, 2_000)))
    deployed.rollouts.start_together("m", (), plan, "ada")
    assert deployed.store.route("m") is not None and _shares(deployed) == ()
    deployed.turns()
    assert _shares(deployed) == (Share(2, 0, 500), Share(4, 5_000, 200))
    _asked(deployed, {})
    deployed.turns()
    assert _shares(deployed) == (Share(2, 0, 2_500), Share(4, 5_000, 1_000))
    assert {one.lineage for one in _open(deployed).values()} == {_open(deployed)[2].lineage}


def test_steps_of_one_turn_are_one_table(deployed: Delivery) -> None:
    """All candidates move in one weight table, and both bakes begin when it is live."""
    deployed.rollouts.start_together("m", (2, 4), PLAN, "ada")
    before = deployed.store.route("m")
    deployed.turns()
    after = deployed.store.route("m")
    assert before is not None and after is not None
    assert after.generation == before.generation + 1
    assert {one.confirmed_us for one in _open(deployed).values()} == {deployed.clock.at_us}


def test_a_prediction_belongs_to_the_rollout_of_its_version(deployed: Delivery) -> None:
    """Also when the weight table in which it was answered is another candidate's step."""
    deployed.rollouts.start_together("m", (2, 4), PLAN, "ada")
    deployed.turns()
    _asked(deployed, {})
    deployed.rollouts.act("m", "promote", "ada", version=4)
    route = deployed.store.route("m")
    assert route is not None
    for version, step, weight_bp in ((2, 0, 500), (4, 1, 2_500)):
        intent = deployed.store.intent("m", route.generation, version)
        assert intent is not None
        assert intent["rollout_id"] == _open(deployed)[version].rollout_id
        assert (intent["canary"], intent["step"], intent["weight_bp"]) == (version, step, weight_bp)
    stable = deployed.store.intent("m", route.generation, 1)
    assert stable is not None and stable["canary"] == 4


def test_the_best_takes_all_and_the_others_end_with_the_same_table(deployed: Delivery) -> None:
    """Both are proven; version 4 fails less often. No table has both at once."""
    _proven(deployed, PLAN, {2: 4, 4: 1})
    deployed.turns()
    assert _shares(deployed) == (Share(4, 0, 10_000),)
    winner, loser = _open(deployed)[4], _open(deployed)[2]
    assert (winner.condition, loser.condition) == ("promoting", "aborting")
    assert loser.reason == "version 4 was chosen"
    deployed.turns()
    assert _open(deployed) == {} and deployed.rollouts.stable("m") == 4
    assert [e["verb"] for e in deployed.store.events(loser.rollout_id)][-2:] == [
        "choose", "advance",
    ]  # fmt: skip
    route = deployed.store.route("m")
    assert route is not None and (route.stable, route.shares, route.lineage) == (4, (), "-")


def test_a_proven_candidate_waits_for_the_others(deployed: Delivery) -> None:
    """Even past the deadline, which ends those that are not through; then it goes on."""
    deployed.rollouts.start_together("m", (2, 4), replace(PLAN, deadline_s=1_000), "ada")
    deployed.turns()
    _asked(deployed, {})
    deployed.rollouts.act("m", "pause", "ada", version=4)
    deployed.turns()
    _asked(deployed, {})
    deployed.turns()
    assert _open(deployed)[2].reason == "proven; waits for version 4"
    deployed.rollouts.act("m", "resume", "ada", version=4)
    deployed.clock.wait(1_000)
    deployed.turns()
    assert (_open(deployed)[2].weight_bp, _open(deployed)[4].condition) == (2_500, "aborting")
    deployed.turns()
    assert _open(deployed)[2].weight_bp == 10_000


def test_a_bad_candidate_ends_alone(deployed: Delivery) -> None:
    """Its buckets go back to stable; the other one keeps its own and wins in the end."""
    deployed.rollouts.start_together("m", (2, 4), PLAN, "ada")
    deployed.turns()
    _asked(deployed, {2: 150})
    deployed.turns()
    assert _open(deployed)[2].condition == "aborting"
    assert _shares(deployed) == (Share(4, 5_000, 2_500),)
    _asked(deployed, {})
    deployed.turns()
    assert [one.condition for one in _open(deployed).values()] == ["promoting"]
    assert _shares(deployed) == (Share(4, 0, 10_000),)


def test_a_candidate_is_judged_by_its_own_answers(deployed: Delivery) -> None:
    """The other's requests and errors are none of its evidence; stable's count for both."""
    deployed.rollouts.start_together("m", (2, 4), PLAN, "ada")
    deployed.turns()
    deployed.ask("canary", 30, 30, rollout=_open(deployed)[2])
    deployed.ask("canary", 50, rollout=_open(deployed)[4])
    deployed.ask("stable", 100)
    deployed.clock.wait(31)
    two, four = deployed.turns()
    assert two.after.condition == "aborting" and four.after.condition == "progressing"
    counted = [(turn.verdicts[0].canary, turn.verdicts[0].stable) for turn in (two, four)]
    assert counted == [((30, 30), (100, 0)), ((50, 0), (100, 0))]


def test_a_person_chooses_where_the_plan_says_so(deployed: Delivery) -> None:
    """Both pause and say so; promoting one to all traffic ends the other one."""
    _proven(deployed, replace(PLAN, winner="ask"), {2: 1})
    deployed.turns()
    assert {one.cause for one in _open(deployed).values()} == {"choice"}
    assert "versions 2, 4 are all proven" in _open(deployed)[2].reason
    deployed.turns()
    assert len(_open(deployed)) == 2
    chosen = deployed.rollouts.act("m", "promote_full", "ada", version=2)
    assert chosen.condition == "promoting"
    assert _shares(deployed) == (Share(2, 0, 10_000),)
    loser = _open(deployed)[4]
    assert (loser.condition, loser.reason) == ("aborting", "version 2 was chosen")
    event = deployed.store.events(loser.rollout_id)[-1]
    assert (event["actor"], event["verb"]) == ("ada", "choose")


def test_asked_again_it_asks_again(deployed: Delivery) -> None:
    """Whoever resumes instead of choosing gets more evidence, and the question once more."""
    _proven(deployed, replace(PLAN, winner="ask", inconclusive_limit=3), {})
    deployed.turns()
    deployed.rollouts.act("m", "resume", "ada", version=2)
    deployed.turns()
    assert _open(deployed)[2].condition == "progressing"
    deployed.clock.wait(31)
    deployed.turns()
    assert (_open(deployed)[2].condition, _open(deployed)[2].cause) == ("paused", "choice")


def test_several_open_rollouts_need_a_version(deployed: Delivery) -> None:
    """A verb without one is refused; a rollback without one takes everything back at once."""
    deployed.rollouts.start_together("m", (2, 4), PLAN, "ada")
    deployed.turns()
    with pytest.raises(Conflict, match="several open rollouts, of versions 2, 4"):
        deployed.rollouts.act("m", "pause", "ada")
    with pytest.raises(NotFound, match="m/3 was never rolled out"):
        deployed.rollouts.act("m", "pause", "ada", version=3)
    assert deployed.rollouts.act("m", "pause", "ada", version=4).condition == "paused"
    assert _open(deployed)[2].condition == "progressing"
    deployed.rollouts.rollback("m", "ada", "odd")
    assert _shares(deployed) == ()
    assert {one.condition for one in _open(deployed).values()} == {"aborting"}


def test_an_aborted_candidate_may_be_tried_again_beside_the_other(deployed: Delivery) -> None:
    """In its own region, with the same cohort, while the other goes on."""
    deployed.rollouts.start_together("m", (2, 4), PLAN, "ada")
    deployed.turns()
    first = deployed.rollouts.act("m", "abort", "ada", version=4)
    deployed.turns()
    deployed.turns()
    again = deployed.rollouts.retry("m", "ada", version=4)
    assert (again.lineage, again.offset_bp, again.max_weight_bp) == (
        first.lineage, first.offset_bp, first.max_weight_bp,
    )  # fmt: skip
    deployed.turns()
    assert _shares(deployed) == (Share(2, 0, 500), Share(4, 5_000, 500))
    with pytest.raises(Conflict, match="open already"):
        deployed.rollouts.start("m", 2, PLAN, "ada")


@pytest.mark.parametrize(
    ("versions", "plan", "fault"),
    [
        ((2, 4), replace(PLAN, candidates=(Candidate(2), Candidate(3))), "are 2, 3, asked for"),
        ((), PLAN, "candidates: are missing"),
        ((2, 2), PLAN, "at most 4 different versions"),
        ((2, 3, 4, 5, 6), PLAN, "at most 4 different versions"),
        ((), replace(PLAN, candidates=(Candidate(2), Candidate(4))), "100 % together at most"),
        ((2, 4), replace(PLAN, winner="beauty"), "winner: is ask or one of the plan's metrics"),
        ((2, 4), replace(PLAN, steps=PLAN.steps[-1:], metrics=METRICS), "need a step before all"),
        ((2,), replace(PLAN, candidates=(Candidate(2, 2),)), "too little"),
    ],
)
def test_what_cannot_be_compared_is_refused_whole(
    deployed: Delivery, versions: tuple[int, ...], plan: Plan, fault: str
) -> None:
    """Every fault is named, and no rollout begins."""
    with pytest.raises(InvalidInput) as refused:
        deployed.rollouts.start_together("m", versions, plan, "ada")
    assert fault in "; ".join(map(str, refused.value.faults))
    assert _open(deployed) == {}


def test_one_bad_version_keeps_all_from_starting(deployed: Delivery) -> None:
    """One that was never measured, one that is not there, and the one that serves."""
    for version in (1, 3, 9):
        with pytest.raises(Exception, match=f"m/{version}"):
            deployed.rollouts.start_together("m", (2, version), PLAN, "ada")
        assert _open(deployed) == {}


def test_a_second_attempt_keeps_the_evidence_for_and_not_that_against(deployed: Delivery) -> None:
    """Retried, the proof goes on where it was; errors of the first attempt count no more."""
    alone = replace(PLAN, metrics=(Metric("errors", floor=0.02, required=True),))
    deployed.rollouts.start("m", 2, alone, "ada")
    deployed.turn()
    deployed.ask("canary", 100, 2)
    deployed.ask("stable", 400)
    deployed.clock.wait(61)
    before = deployed.turn().verdicts[0]
    deployed.rollouts.act("m", "abort", "ada")
    deployed.turn()
    deployed.turn()
    deployed.clock.wait(1)
    deployed.rollouts.retry("m", "ada")
    deployed.turn()
    after = deployed.turn().verdicts[0]
    assert before.ln_e_worse != 0 and after.ln_e_worse == 0 and after.canary == (0, 0)
    assert after.ln_e_good == before.ln_e_good != 0
