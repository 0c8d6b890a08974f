"""The controller is killed at every point at which it writes, one after the other.

The points are not listed: a whole rollout is run again and again, and the n-th write transaction
ends the controller just before it commits, until a run has no n-th one; to be killed after the n-th
is to be killed before the next. Then another controller opens the database and goes on.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.killer import KilledError, Killer

from steelyard.domain.analysis import Metric
from steelyard.domain.rollout_plan import Plan, Step
from steelyard.ports.applications import ApplicationState

from .conftest import Delivery, MovingClock, engine_at, put_back

METRICS = (Metric("errors", floor=0.1, required=True), Metric("labels"))
PLAN = Plan(
    (Step(1_000, 60.0, 20), Step(5_000, 60.0, 20), Step(10_000)), METRICS, interval_s=10.0,
    label_maturity_s=0.0, probation_s=30.0, inconclusive_limit=30, winner="errors",
)  # fmt: skip


@dataclass(frozen=True)
class Minute:
    """What users do after the controller's turn, and how long it is until the next one.

    ``errors`` are of the ``canary`` requests; ``rival`` are those of a second candidate. Of
    ``copies`` a shadow answers, ``differing`` are not what the client heard.
    """

    seconds: int
    canary: int = 0
    stable: int = 0
    errors: int = 0
    rival: int = 0
    copies: int = 0
    differing: int = 0


GOOD = [Minute(61, 20, 50), Minute(61, 60, 60), Minute(31), Minute(31)]
BAD = [Minute(61, 20, 50), Minute(21, 60, 60, errors=30), Minute(9)]
COMPARED = [Minute(61, 20, 50, rival=20), Minute(61, 99, 60, 1, rival=99), Minute(31), Minute(31)]
UNSEEN = [Minute(61, copies=30), Minute(61, 60, 60), Minute(31, copies=30), Minute(31)]
DIFFERENT = [Minute(21, copies=60, differing=50), Minute(9)]
SHADOWED = replace(
    PLAN, steps=(Step(0, 60.0, 20, shadow_bp=2_000), *PLAN.steps[1:]), reverse_shadow_bp=500,
    metrics=(METRICS[0], Metric("disagreement", limit=0.2)),
)  # fmt: skip
Run = Callable[[list[Minute], Killer, tuple[int, ...], Plan], dict[str, Any]]


@pytest.fixture
def run(served_ledger: Path, tmp_path: Path) -> Iterator[Run]:
    """Runs a rollout on an empty database and tells all that it left behind."""
    path = tmp_path / "ledger.db"

    def whole(
        minutes: list[Minute], killer: Killer, versions: tuple[int, ...], plan: Plan
    ) -> dict[str, Any]:
        put_back(served_ledger, path)
        clock = MovingClock()
        users = Delivery(path, clock)
        clock.wait(1)
        users.rollouts.start_together("m", versions, plan, "ada")
        controller = Delivery(path, clock)
        for minute in minutes:
            try:
                with killer.lurking(engine_at(path)):
                    _turns(controller)
            except KilledError:
                controller = Delivery(path, clock)
                _turns(controller)
            opened = [stored.rollout for stored in users.store.open_rollouts("m")]
            if opened:
                users.ask("canary", minute.canary, minute.errors)
                users.ask("stable", minute.stable)
                users.repeat(minute.copies, minute.differing, rollout=opened[0])
            for rival in opened[1:]:
                users.ask("canary", minute.rival, rollout=rival)
            clock.wait(minute.seconds)
        return _left(users)

    yield whole
    engine_at(path).dispose()


def _turns(delivery: Delivery) -> None:
    """Turns until there is nothing to do at this moment, so that one more does not matter."""
    before = None
    while before != (before := delivery.store.rollouts("m")):
        _turn(delivery)


def _turn(delivery: Delivery) -> None:
    """What the controller does in a turn, in its order."""
    store, now = delivery.store, delivery.clock.at_us
    token = store.leases.acquire("controller", "test", now, 10**12)
    assert token is not None
    delivery.rollouts.complete_promotions(token)
    ready = {("m", n): ApplicationState("ready") for n in (1, 2, 4)}
    delivery.rollouts.turns.all(ready, 0, token)
    route = store.route("m")
    assert route is not None
    assert route.stable == 1 or delivery.rollouts.stable("m") == route.stable
    delivery.rollouts.confirm("m", route.generation, token)


def _left(delivery: Delivery) -> dict[str, Any]:
    """Everything that is kept of the rollouts, but for random names and the chain's digests."""
    assert delivery.store.first_break() is None
    rollouts = [s.rollout for s in delivery.store.rollouts("m") if s.rollout.kind == "canary"]
    rollouts.sort(key=lambda rollout: rollout.candidate)
    names = {"rollout_id", "lineage"}
    queries = {
        "observations": "select metric, generation, interval_start_us, n_canary, x_canary,"
                        " n_stable, x_stable from observation order by 1, 2, 3, 4, 5",
        "tables": "select generation, stable, canary, weight_bp, shares, step, created_us"
                  " from traffic_intent order by 1",
        "confirmations": "select generation, confirmed_us from traffic_confirmation order by 1",
        "promotions": "select seq, from_version, to_version, verb, reason, at_us from promotion"
                      " order by 1",
    }  # fmt: skip
    with delivery.engine.connect() as connection:
        rows = {name: connection.execute(text(query)).all() for name, query in queries.items()}
    events = [
        (e["verb"], e["from_condition"], e["to_condition"], e["step"], e["weight_bp"],
         e["generation"], e["at_us"], e["reason"])
        for rollout in rollouts for e in delivery.store.events(rollout.rollout_id)
    ]  # fmt: skip
    ends = [{key: value for key, value in asdict(one).items() if key not in names}
            for one in rollouts]  # fmt: skip
    return {"ends": ends, "events": events, **rows}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("minutes", "versions", "plan", "conditions"),
    [
        (GOOD, (2,), PLAN, [["progressing", "progressing", "promoting", "probation", "healthy"]]),
        (BAD, (2,), PLAN, [["progressing", "progressing", "aborting", "degraded"]]),
        (UNSEEN, (2,), SHADOWED,
         [["progressing", "progressing", "promoting", "probation", "healthy"]]),
        (DIFFERENT, (2,), SHADOWED, [["progressing", "degraded"]]),
        (COMPARED, (2, 4), PLAN, [
            ["progressing", "progressing", "aborting", "degraded"],
            ["progressing", "progressing", "promoting", "probation", "healthy"],
        ]),
    ],
    ids=["promoted", "taken back", "shadow first", "ended in the shadow", "compared"],
)  # fmt: skip
def test_a_killed_controller_leaves_nothing_half_done(
    run: Run, minutes: list[Minute], versions: tuple[int, ...], plan: Plan,
    conditions: list[list[str]],
) -> None:  # fmt: skip
    """The same end, events, tables, bake start, evidence and promotion as without a kill."""
    whole = Killer(0)
    expected = run(minutes, whole, versions, plan)
    gone_through = [condition for some in conditions for condition in ("preparing", *some)]
    assert [event[2] for event in expected["events"]] == gone_through
    assert whole.writes > len(minutes)
    at = 0
    while True:
        at += 1
        killer = Killer(at)
        found = run(minutes, killer, versions, plan)
        assert found == expected, f"killed at write {at}"
        if killer.writes < at:
            break
    assert at == whole.writes + 1
