from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.database import migrate, open_engine
from steelyard.adapters.sql.evidence import EvidenceStore
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.predictions import PredictionStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.errors import Conflict, InvalidInput, NotFound, Refused
from steelyard.domain.evidence import Evidence
from steelyard.domain.model_version import Candidate, ModelVersion, Signature
from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Rollout
from steelyard.ports.applications import ApplicationPhase, ApplicationState
from steelyard.services.gates import Gates
from steelyard.services.rollouts import Rollouts, Turn, plan_of

SECOND = 1_000_000
PLAN = plan_of([10, 50, 100], 60, 100, 10, 0, 600)


EVIDENCE = Evidence(
    10, 0.9, 100, 0.1, 0.2, {"cpu": "test"}, labels=100, chance=0.1, accuracy_low=0.82,
    accuracy_high=0.95,
)  # fmt: skip


class MovingClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.at_us = 1_000 * SECOND

    def now_us(self) -> int:
        """The present moment."""
        return self.at_us

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.at_us += seconds * SECOND


class ListedVersions:
    """A registry of three versions in memory; the third was never measured."""

    def models(self) -> list[str]:
        """The one model."""
        return ["m"]

    def versions(self, model: str) -> list[ModelVersion]:
        """All three."""
        return [self.version(model, number) for number in (1, 2, 3)]

    def version(self, model: str, version: int) -> ModelVersion:
        """One of the three."""
        if model != "m" or version not in (1, 2, 3):
            raise NotFound(f"There is no {model}/{version}.")
        evidence = EVIDENCE if version < 3 else None
        return ModelVersion("m", version, f"run-{version}", "runs:/r", "model.onnx",
                            str(version) * 64, 10, "base", "trained", Signature((), ()), 0,
                            evidence=evidence)  # fmt: skip

    def register(self, candidate: Candidate) -> ModelVersion:
        """Nothing can be added."""
        raise Refused(f"{candidate.model} is closed.")

    def aliases(self, model: str) -> dict[str, int]:
        """None are set."""
        return {}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Not kept."""

    def check(self, version: ModelVersion) -> None:
        """There is no file that could have changed."""

    def fetch(self, version: ModelVersion, cache: Path) -> Path:
        """Where it would lie."""
        return cache / version.artifact


class Delivery:
    """A controller's view: rollouts on a database, an edge that obeys, and users."""

    def __init__(self, path: Path, clock: MovingClock) -> None:
        self.engine: Engine = open_engine(f"sqlite:///{path}")
        migrate(self.engine)
        self.clock = clock
        self.store = RolloutStore(self.engine)
        self.facts = FactStore(self.engine)
        versions = ListedVersions()
        gates = Gates(EvidenceStore(self.engine), versions, clock, lambda _: {"cpu": "test"})
        predictions = PredictionStore(self.engine)
        self.rollouts = Rollouts(self.store, predictions, versions, gates, clock)
        token = self.store.acquire_lease("controller", "test", clock.at_us, 10**12)
        assert token is not None
        self.token = token
        self._asked = 0

    def turn(self, confirm: bool = True, phase: ApplicationPhase = "ready") -> Turn:
        """One turn of the controller; the edge confirms the newest table unless told not to."""
        states = {("m", n): ApplicationState(phase, "as told") for n in (1, 2, 3)}
        turn = self.rollouts.reconcile("m", states, 0, self.token)
        assert turn is not None
        if confirm and turn.after.generation:
            self.rollouts.confirm("m", turn.after.generation, self.token)
        return turn

    def current(self) -> Rollout:
        """The open rollout."""
        stored = self.store.open_rollout("m")
        assert stored is not None
        return stored.rollout

    def deploy(self, version: int = 1) -> None:
        """A first deployment that worked."""
        self.rollouts.deploy("m", version, "ada")
        assert [self.turn().after.condition for _ in range(2)] == ["promoting", "healthy"]

    def ask(self, arm: ArmName, count: int, errors: int = 0) -> None:
        """Users ask within the present weight table; the first ``errors`` answers are a 500."""
        rollout, start = self.current(), self._asked
        self._asked += count
        self.facts.ingest(
            [
                PredictionRecord(
                    f"p-{start + n}", "m", 2 if arm == "canary" else 1, "d" * 64, "r", arm,
                    rollout.lineage, rollout.generation, n, self.clock.at_us + n, 5, 1,
                    500 if n < errors else 200,
                )
                for n in range(count)
            ],
            self.clock.at_us,
        )  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Delivery]]:
    """Opens the same database again and again, as a restarted controller does."""
    clock, made = MovingClock(), list[Delivery]()

    def make() -> Delivery:
        made.append(Delivery(tmp_path / "ledger.db", clock))
        return made[-1]

    yield make
    for delivery in made:
        delivery.engine.dispose()


@pytest.fixture
def delivery(opened: Callable[[], Delivery]) -> Delivery:
    """An empty platform."""
    return opened()


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
    assert route is not None and (route.stable, route.canary, route.weight_bp) == (1, None, 0)


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
        delivery.rollouts.start("m", 2, plan_of([50, 10], 0, 0, 10, 0, 0), "ada")
    delivery.rollouts.start("m", 2, PLAN, "ada")
    with pytest.raises(Conflict, match="open already"):
        delivery.rollouts.start("m", 2, PLAN, "ada")


def test_a_verb_needs_an_open_rollout(delivery: Delivery) -> None:
    """The hint says where the past is."""
    with pytest.raises(NotFound, match="No rollout of m is open") as refused:
        delivery.rollouts.pause("m", "ada")
    assert "rollout history m" in refused.value.hint


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
    assert route is not None and (route.stable, route.canary, route.weight_bp) == (2, None, 0)
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
    assert route is not None and route.weight_bp == 0


def test_a_rollback_returns_to_the_last_good_version(delivery: Delivery) -> None:
    """The newest earlier version that earned all traffic, not one that was aborted."""
    delivery.deploy(1)
    with pytest.raises(Conflict, match="no earlier version"):
        delivery.rollouts.rollback("m", "ada", "odd")
    delivery.rollouts.start("m", 2, plan_of([100], 0, 0, 10, 0, 600), "ada")
    delivery.turn()
    delivery.turn()
    assert delivery.rollouts.stable("m") == 2
    undo = delivery.rollouts.rollback("m", "bob", "worse in the field")
    assert (undo.kind, undo.stable, undo.candidate) == ("undo", 2, 1)
    delivery.turn()
    delivery.turn()
    assert delivery.rollouts.stable("m") == 1
    assert delivery.store.promotions("m")[-1].verb == "undo"


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
    delivery.rollouts.complete_promotions()
    assert [p.to_version for p in delivery.store.promotions("m")] == [1]
    rollout = delivery.rollouts.start("m", 2, plan_of([100], 0, 0, 10, 0, 600), "ada")
    delivery.turn()
    stored = delivery.store.open_rollout("m")
    assert stored is not None
    _crash_before_promotion(delivery, rollout)
    restarted = opened()
    assert restarted.rollouts.stable("m") == 1
    for _ in range(2):
        restarted.rollouts.complete_promotions()
    assert [p.to_version for p in restarted.store.promotions("m")] == [1, 2]


def _crash_before_promotion(delivery: Delivery, rollout: Rollout) -> None:
    """What ``reconcile`` writes up to the moment before the promotion."""
    stored = delivery.store.open_rollout("m")
    assert stored is not None and stored.rollout.rollout_id == rollout.rollout_id
    ended = replace(stored.rollout, condition="healthy", ended_us=delivery.clock.at_us)
    change = Change("controller", "advance")
    delivery.store.save(stored, ended, change, delivery.clock.at_us, token=delivery.token)


def test_a_pause_survives_the_controller_s_turns(delivery: Delivery) -> None:
    """Until a person resumes or promotes; full promotion needs no proof but readiness."""
    delivery.deploy()
    delivery.rollouts.start("m", 2, PLAN, "ada")
    delivery.turn()
    delivery.rollouts.pause("m", "ada")
    delivery.clock.wait(1_000)
    assert delivery.turn().after.condition == "paused"
    delivery.rollouts.resume("m", "ada")
    assert delivery.current().condition == "progressing"
    delivery.rollouts.promote("m", "ada", full=True)
    route = delivery.store.route("m")
    assert route is not None and route.weight_bp == 10_000
    delivery.turn(confirm=True)
    delivery.turn()
    assert delivery.rollouts.stable("m") == 2
