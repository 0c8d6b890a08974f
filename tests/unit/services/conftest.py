"""A controller's view of progressive delivery: a database, versions, an edge that obeys, users."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count as counting
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from steelyard.adapters.sql.arms import ArmStore
from steelyard.adapters.sql.database import migrate, open_engine
from steelyard.adapters.sql.evidence import EvidenceStore
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.operations import OperationStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.adapters.sql.served_versions import ServedVersionStore
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.errors import NotFound, Refused
from steelyard.domain.evidence import Evidence
from steelyard.domain.model_version import Candidate, ModelVersion, Signature
from steelyard.domain.rollout import Rollout
from steelyard.domain.traffic import BUCKETS
from steelyard.ports.applications import ApplicationPhase, ApplicationState
from steelyard.services.gates import Gates
from steelyard.services.operations import Operations
from steelyard.services.rollout_turns import Turn
from steelyard.services.rollouts import Rollouts
from steelyard.services.served_versions import ServedVersions

SECOND = 1_000_000
NUMBERED = (1, 2, 3, 4)
NUMBERS = counting()
"""Of predictions: no two are alike, whichever controller runs."""
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
    """A registry of four versions in memory; the third was never measured."""

    def models(self) -> list[str]:
        """The one model."""
        return ["m"]

    def versions(self, model: str) -> list[ModelVersion]:
        """All four."""
        return [self.version(model, number) for number in NUMBERED]

    def version(self, model: str, version: int) -> ModelVersion:
        """One of the four, and of as many of its twin."""
        if model not in ("m", "n") or version not in NUMBERED:
            raise NotFound(f"There is no {model}/{version}.")
        evidence = EVIDENCE if version != 3 else None
        return ModelVersion(model, version, f"run-{version}", "runs:/r", "model.onnx",
                            str(version) * 64, 10, "base", "trained", Signature((), ()), 0,
                            evidence=evidence)  # fmt: skip

    def register(self, candidate: Candidate) -> ModelVersion:
        """Nothing can be added."""
        raise Refused(f"{candidate.model} is closed.")

    def aliases(self, model: str) -> dict[str, int]:
        """None are set."""
        return {}

    def all_aliases(self) -> dict[str, dict[str, int]]:
        """None are set."""
        return {"m": {}}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Not kept."""

    def drop_alias(self, model: str, alias: str) -> None:
        """None are set."""

    def delete(self, model: str, version: int) -> None:
        """Nothing can be taken away."""
        raise Refused(f"{model} is closed.")

    def check(self, version: ModelVersion) -> None:
        """There is no file that could have changed."""

    def fetch(self, version: ModelVersion, cache: Path) -> Path:
        """Where it would lie."""
        return cache / version.artifact


@cache
def engine_at(path: Path) -> Engine:
    """The engine of a database file: it knows its statements, which to compile takes longest."""
    engine = open_engine(f"sqlite:///{path}")
    # Nobody pulls the plug here: waiting for the disk would only take time.
    event.listen(engine, "connect", lambda c, _: c.execute("pragma synchronous=off"))
    return engine


def put_back(ledger: Path, path: Path) -> None:
    """Make a database what another one is; nobody may be using it."""
    engine_at(path).dispose()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copy(ledger, path)


class Delivery:
    """A controller's view: rollouts on a database, an edge that obeys, and users."""

    def __init__(self, path: Path, clock: MovingClock) -> None:
        self.engine = engine_at(path)
        self.clock = clock
        self.store = RolloutStore(self.engine)
        self.facts = FactStore(self.engine)
        versions = ListedVersions()
        gates = Gates(EvidenceStore(self.engine), versions, clock, lambda _: {"cpu": "test"})
        served = ServedVersions(ServedVersionStore(self.engine), versions, clock, path.parent)
        self.rollouts = Rollouts(self.store, ArmStore(self.engine), versions, gates, clock, served)
        self.operations = Operations(
            OperationStore(self.engine), self.rollouts, versions, gates, clock
        )
        token = self.store.leases.acquire("controller", "test", clock.at_us, 10**12)
        assert token is not None
        self.token = token

    def turn(self, confirm: bool = True, phase: ApplicationPhase = "ready") -> Turn:
        """The turn of the only rollout; the edge confirms the newest table unless told not to."""
        (turn,) = self.turns(confirm, phase)
        return turn

    def turns(self, confirm: bool = True, phase: ApplicationPhase = "ready") -> tuple[Turn, ...]:
        """One turn of the controller for every open rollout."""
        states = {("m", n): ApplicationState(phase, "as told") for n in NUMBERED}
        turns = self.rollouts.turns.all(states, 0, self.token)
        route = self.store.route("m")
        if confirm and route is not None:
            self.rollouts.confirm("m", route.generation, self.token)
        return turns

    def current(self) -> Rollout:
        """The open rollout."""
        stored = self.store.open_rollout("m")
        assert stored is not None
        return stored.rollout

    def deploy(self, version: int = 1) -> None:
        """A first deployment that worked."""
        self.rollouts.deploy("m", version, "ada")
        assert [self.turn().after.condition for _ in range(2)] == ["promoting", "healthy"]

    def ask(
        self, arm: ArmName, count: int, errors: int = 0, unit: str | None = None,
        rollout: Rollout | None = None,
    ) -> None:  # fmt: skip
        """Users ask within the present weight table; the first ``errors`` answers are a 500.

        Everybody asks once unless all are the one ``unit``. ``rollout`` says whose canary, where
        there are several.
        """
        rollout = rollout or self.current()
        version = rollout.candidate if arm == "canary" else rollout.stable
        assert version is not None
        self.facts.ingest(
            [
                PredictionRecord(
                    f"p-{next(NUMBERS)}", "m", version, "d" * 64, "r", arm, rollout.lineage,
                    rollout.generation, n, self.clock.at_us + n, 5, 1, 500 if n < errors else 200,
                    unit_sha256=unit,
                )
                for n in range(count)
            ],
            self.clock.at_us,
        )  # fmt: skip

    def repeat(
        self, pairs: int, canary_wrong: int = 0, status: int = 200, rollout: Rollout | None = None
    ) -> list[str]:
        """Users ask whichever version is live, and the other one answers the copies with a status.

        Class 0 is right; the candidate answers the first ``canary_wrong`` with another. The ids
        of the live predictions are told.
        """
        rollout = rollout or self.current()
        assert rollout.stable is not None
        seen: ArmName = "canary" if rollout.weight_bp == BUCKETS else "stable"
        versions = [rollout.stable, rollout.candidate]
        live, other = reversed(versions) if seen == "canary" else versions
        names = [f"p-{next(NUMBERS)}" for _ in range(pairs)]
        answers: tuple[tuple[int, ArmName, int], ...] = (
            (live, seen, 200),
            (other, "shadow", status),
        )
        self.facts.ingest(
            [
                PredictionRecord(
                    f"copy-{name}" if arm == "shadow" else name, "m", version, "d" * 64, "r", arm,
                    rollout.lineage, rollout.generation, 9_999, self.clock.at_us + n, 5, 1, ended,
                    unit_sha256=name, shadows=name if arm == "shadow" else None,
                    classes=(int(version == rollout.candidate and n < canary_wrong),),
                )
                for n, name in enumerate(names)
                for version, arm, ended in answers
            ],
            self.clock.at_us,
        )  # fmt: skip
        return names


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables, to be copied: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "ledger.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def served_ledger(empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with version 1 deployed, at the clock's first moment."""
    path = tmp_path_factory.mktemp("served") / "ledger.db"
    shutil.copy(empty_ledger, path)
    delivery = Delivery(path, MovingClock())
    delivery.deploy()
    delivery.engine.dispose()
    return path


@pytest.fixture
def opened(empty_ledger: Path, tmp_path: Path) -> Iterator[Callable[[], Delivery]]:
    """Opens the same database again and again, as a restarted controller does."""
    clock, made = MovingClock(), list[Delivery]()
    shutil.copy(empty_ledger, tmp_path / "ledger.db")

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
