"""The controller is killed at every point at which it writes, one after the other.

The points are not listed: a whole rollout is run again and again, and the n-th write transaction
ends the controller just before it commits, until a run has no n-th one; to be killed after the n-th
is to be killed before the next. Then another controller opens the database and goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from steelyard.domain.analysis import Metric
from steelyard.domain.rollout_plan import Plan, Step
from steelyard.ports.applications import ApplicationState

from .conftest import Delivery, MovingClock, engine_at, put_back

METRICS = (Metric("errors", floor=0.1, required=True), Metric("labels"))
PLAN = Plan(
    (Step(1_000, 60.0, 20), Step(5_000, 60.0, 20), Step(10_000)), METRICS, interval_s=10.0,
    label_maturity_s=0.0, probation_s=30.0, inconclusive_limit=30,
)  # fmt: skip


class KilledError(BaseException):
    """Nothing of the controller's own runs after it: no handler, no next statement."""


class Killer:
    """Ends the controller at its n-th write transaction, before that is durable."""

    def __init__(self, at: int) -> None:
        self.at, self.writes = at, 0

    def __call__(self, connection: Connection) -> None:
        """Called when a transaction is about to be committed."""
        if connection.get_execution_options().get("steelyard_read"):
            return
        self.writes += 1
        if self.writes == self.at:
            raise KilledError


@dataclass(frozen=True)
class Minute:
    """What users do after the controller's turn, and how long it is until the next one."""

    seconds: int
    canary: int = 0
    stable: int = 0
    errors: int = 0


GOOD = [Minute(61, 20, 50), Minute(61, 60, 60), Minute(31), Minute(31)]
BAD = [Minute(61, 20, 50), Minute(21, 60, 60, errors=30), Minute(9)]
Run = Callable[[list[Minute], Killer], dict[str, Any]]


@pytest.fixture
def run(served_ledger: Path, tmp_path: Path) -> Iterator[Run]:
    """Runs a rollout on an empty database and tells all that it left behind."""
    path = tmp_path / "ledger.db"

    def whole(minutes: list[Minute], killer: Killer) -> dict[str, Any]:
        put_back(served_ledger, path)
        clock = MovingClock()
        users = Delivery(path, clock)
        clock.wait(1)
        users.rollouts.start("m", 2, PLAN, "ada")
        controller = Delivery(path, clock)
        for minute in minutes:
            try:
                with _armed(killer):
                    _turns(controller)
            except KilledError:
                controller = Delivery(path, clock)
                _turns(controller)
            if users.store.open_rollout("m") is not None:
                users.ask("canary", minute.canary, minute.errors)
                users.ask("stable", minute.stable)
            clock.wait(minute.seconds)
        return _left(users)

    @contextmanager
    def _armed(killer: Killer) -> Iterator[None]:
        event.listen(engine_at(path), "commit", killer)
        try:
            yield
        finally:
            event.remove(engine_at(path), "commit", killer)

    yield whole
    engine_at(path).dispose()


def _turns(delivery: Delivery) -> None:
    """Turns until there is nothing to do at this moment, so that one more does not matter."""
    before = None
    while before != (before := delivery.store.rollouts("m")[0]):
        _turn(delivery)


def _turn(delivery: Delivery) -> None:
    """What the controller does in a turn, in its order."""
    store, now = delivery.store, delivery.clock.at_us
    token = store.acquire_lease("controller", "test", now, 10**12)
    assert token is not None
    delivery.rollouts.complete_promotions()
    ready = {("m", n): ApplicationState("ready") for n in (1, 2)}
    delivery.rollouts.reconcile("m", ready, 0, token)
    route = store.route("m")
    assert route is not None
    assert route.stable == 1 or delivery.rollouts.stable("m") == route.stable
    delivery.rollouts.confirm("m", route.generation, token)


def _left(delivery: Delivery) -> dict[str, Any]:
    """Everything that is kept of the rollout, but for its random name and the chain's digests."""
    assert delivery.store.first_break() is None
    rollout = delivery.store.rollouts("m")[0].rollout
    names = {"rollout_id", "lineage"}
    queries = {
        "observations": "select metric, generation, interval_start_us, n_canary, x_canary,"
                        " n_stable, x_stable from observation order by 1, 2, 3",
        "tables": "select generation, stable, canary, weight_bp, step, created_us"
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
        for e in delivery.store.events(rollout.rollout_id)
    ]  # fmt: skip
    end = {key: value for key, value in asdict(rollout).items() if key not in names}
    return {"end": end, "events": events, **rows}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("minutes", "conditions"),
    [
        (GOOD, ["progressing", "progressing", "promoting", "probation", "healthy"]),
        (BAD, ["progressing", "progressing", "aborting", "degraded"]),
    ],
    ids=["promoted", "taken back"],
)
def test_a_killed_controller_leaves_nothing_half_done(
    run: Run, minutes: list[Minute], conditions: list[str]
) -> None:
    """The same end, events, tables, bake start, evidence and promotion as without a kill."""
    whole = Killer(0)
    expected = run(minutes, whole)
    assert [event[2] for event in expected["events"]] == ["preparing", *conditions]
    assert whole.writes > len(minutes)
    at = 0
    while True:
        at += 1
        killer = Killer(at)
        found = run(minutes, killer)
        assert found == expected, f"killed at write {at}"
        if killer.writes < at:
            break
    assert at == whole.writes + 1
