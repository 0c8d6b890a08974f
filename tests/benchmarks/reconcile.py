"""One turn of the controller with 50 models in rollout, on SQLite: how long does it take?

    python tests/benchmarks/reconcile.py [--models 50] [--predictions 200000] [--turns 180]
                                         [--together]

The real controller, services and stores run; what stands in is the world around them: versions
that are ready, an edge that obeys at once, a registry in memory. Every model has had a canary at
5 % for an hour, in which all together made the predictions, of a thousand users each. The rollouts
began a second apart, or all at one moment (``--together``), so that their intervals end together.
Then a new controller's turns follow, a second apart as in production, with the same traffic going
on: that is stored between the turns and not counted. The first turn counts all of the hour and is
told apart. The books are posted by the same process every ten seconds and have a benchmark of
their own. Wall time is other processes' too, so the aim is held against processor time.
"""

import argparse
import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import insert

from steelyard.adapters.sql.tables import audit
from steelyard.bootstrap import Platform
from steelyard.domain.api_key import ApiKey
from steelyard.domain.evidence import Evidence
from steelyard.domain.model_version import Candidate, ModelVersion, Signature
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.traffic import BUCKETS, Route
from steelyard.ports.applications import ONE, ApplicationState, Replicas, ServedVersion
from steelyard.settings import Settings
from steelyard_serving.controller import Controller

SECOND_US, HOUR_S, AIM_MS = 1_000_000, 3_600, 50
USERS, ERRORS = 1_000, 0.005
PLAN = Plan(
    (Step(500, 86_400.0, 100), Step(5_000, 3_600.0, 100), Step(BUCKETS)), default_metrics(),
    label_maturity_s=600.0,
)  # fmt: skip
EVIDENCE = Evidence(
    10, 0.9, 100, 0.1, 0.2, {"cpu": "bench"}, labels=100, chance=0.1, accuracy_low=0.82,
    accuracy_high=0.95,
)  # fmt: skip


@dataclass
class Clock:
    """Time that the benchmark lets pass."""

    at_us: int = 1_767_225_600 * SECOND_US

    def now_us(self) -> int:
        """The present moment."""
        return self.at_us


class Versions:
    """A registry of two versions of every model, in memory."""

    def __init__(self, models: Sequence[str]) -> None:
        self._models = list(models)
        self._aliases: dict[str, dict[str, int]] = {}

    def models(self) -> list[str]:
        """All of them."""
        return self._models

    def versions(self, model: str) -> list[ModelVersion]:
        """Both."""
        return [self.version(model, number) for number in (1, 2)]

    def version(self, model: str, version: int) -> ModelVersion:
        """One of the two."""
        return ModelVersion(model, version, f"run-{version}", "runs:/r", "model.onnx",
                            str(version) * 64, 10, "base", "trained", Signature((), ()), 0,
                            evidence=EVIDENCE)  # fmt: skip

    def register(self, candidate: Candidate) -> ModelVersion:
        """Nothing is registered here."""
        raise NotImplementedError(candidate.model)

    def aliases(self, model: str) -> dict[str, int]:
        """Those that were set."""
        return self._aliases.get(model, {})

    def all_aliases(self) -> dict[str, dict[str, int]]:
        """Those of every model."""
        return {model: dict(own) for model, own in self._aliases.items()}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Keep it."""
        self._aliases.setdefault(model, {})[alias] = version

    def drop_alias(self, model: str, alias: str) -> None:
        """Forget it."""
        self._aliases.get(model, {}).pop(alias, None)

    def delete(self, model: str, version: int) -> None:
        """Nothing is deleted here."""
        raise NotImplementedError(model)

    def check(self, version: ModelVersion) -> None:
        """There is no file."""

    def fetch(self, version: ModelVersion, cache: Path) -> Path:
        """Where it would lie."""
        return cache / version.artifact


@dataclass
class Ready:
    """Applications that are ready as soon as they are wanted."""

    running: dict[tuple[str, int], ApplicationState] = field(default_factory=dict)

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """It runs."""
        self.running[served.version.model, served.version.version] = ApplicationState("ready")

    def remove(self, model: str, version: int) -> None:
        """It is gone."""
        self.running.pop((model, version), None)

    def states(self) -> Mapping[tuple[str, int], ApplicationState]:
        """All that run."""
        return self.running


class Obedient:
    """An edge that uses every table at once."""

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """Done."""

    def limit(self, keys: Mapping[str, ApiKey]) -> None:
        """Done."""

    def steer(
        self, policies: Mapping[str, ServingPolicy], deployed: frozenset[tuple[str, int]]
    ) -> None:
        """Done."""

    def diverted(self) -> frozenset[tuple[str, int]]:
        """Nobody is."""
        return frozenset()


def platform_of(folder: Path, models: Sequence[str], clock: Clock) -> Platform:
    """A platform on SQLite whose clock and registry are the benchmark's."""
    platform = Platform(Settings(home=folder, posting_interval_s=1e9))
    platform.__dict__.update(clock=clock, registry=Versions(models))
    return platform


def anew(platform: Platform) -> Platform:
    """The same platform in a process that has only begun and remembers nothing."""
    other = Platform(platform.settings)
    other.__dict__.update(clock=platform.clock, registry=platform.registry)
    return other


def rolled_out(controller: Controller, models: Sequence[str], clock: Clock, apart_s: int) -> None:
    """Version 1 of every model has all traffic, version 2 its first 5 %."""
    platform = controller.platform
    for model in models:
        platform.rollouts.deploy(model, 1, "bench", override="benchmark")
    for _ in range(3):
        controller.turn()
    for model in models:
        platform.rollouts.start(model, 2, PLAN, "bench", override="benchmark")
        clock.at_us += apart_s * SECOND_US
    for _ in range(2):
        controller.turn()


class Traffic:
    """Users who ask every model, each its own version."""

    def __init__(self, platform: Platform, models: Sequence[str]) -> None:
        self._platform = platform
        self._rollouts = [self._open(model) for model in models]
        self._users = [hashlib.sha256(f"user-{n}".encode()).hexdigest() for n in range(USERS)]
        self._random = random.Random(7)
        self._made = 0

    def _open(self, model: str) -> Rollout:
        stored = self._platform.rollout_store.open_rollout(model)
        assert stored is not None and stored.rollout.weight_bp == PLAN.steps[0].weight_bp
        return stored.rollout

    def ask(self, count: int, since_us: int, until_us: int) -> None:
        """So many predictions, spread over a stretch of time and the models."""
        rows = [
            self._row(since_us + number * (until_us - since_us) // count) for number in range(count)
        ]
        for start in range(0, count, 10_000):
            with self._platform.engine.begin() as connection:
                connection.execute(insert(audit.prediction), rows[start : start + 10_000])

    def _row(self, at_us: int) -> dict[str, object]:
        rollout = self._random.choice(self._rollouts)
        user = self._random.randrange(USERS)
        canary = user < USERS * rollout.weight_bp // BUCKETS
        self._made += 1
        return {
            "prediction_id": f"{self._random.getrandbits(128):032x}", "model": rollout.model,
            "version": 2 if canary else 1, "sha256": "d" * 64, "resource_id": "replica",
            "arm": "canary" if canary else "stable", "lineage": rollout.lineage,
            "generation": rollout.generation, "bucket": user, "received_us": at_us,
            "busy_ns": 150_000, "items": 1, "unit_sha256": self._users[user],
            "status": 500 if self._random.random() < ERRORS else 200, "classes": "[3]",
            "latency_us": 900, "cached": 0,
        }  # fmt: skip


def show(name: str, seconds: Sequence[float]) -> float:
    """Print milliseconds: the median, the 95th percentile, the most; returns the 95th's."""
    values = sorted(1e3 * one for one in seconds)
    p95 = values[int(0.95 * (len(values) - 1))]
    print(f"{name:<24} p50 {statistics.median(values):8.1f} ms   p95 {p95:8.1f} ms   "
          f"most {values[-1]:8.1f} ms", flush=True)  # fmt: skip
    return p95


def timed(controller: Controller) -> tuple[float, float]:
    """Processor and wall seconds of one turn."""
    cpu, wall = time.process_time(), time.perf_counter()
    assert controller.turn()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Roll out, ask for an hour, then turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--predictions", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=180)
    parser.add_argument("--together", action="store_true")
    given = parser.parse_args()
    models, clock = [f"model-{n:02}" for n in range(given.models)], Clock()
    with tempfile.TemporaryDirectory() as name:
        platform, world = platform_of(Path(name), models, clock), (Ready(), Obedient())
        rolled_out(Controller(platform, *world), models, clock, 0 if given.together else 1)
        traffic, began_us = Traffic(platform, models), clock.at_us
        clock.at_us += HOUR_S * SECOND_US
        traffic.ask(given.predictions, began_us, clock.at_us)
        controller = Controller(anew(platform), *world)
        print(f"the first turn after an hour: {1e3 * timed(controller)[0]:,.0f} ms", flush=True)
        spent = []
        for _ in range(given.turns):
            clock.at_us += SECOND_US
            traffic.ask(given.predictions // HOUR_S, clock.at_us - SECOND_US, clock.at_us)
            controller.keep_books()
            spent.append(timed(controller))
    p95 = show("a turn, processor time", [cpu for cpu, _ in spent])
    show("a turn, wall time", [wall for _, wall in spent])
    print(f"p95 of the processor time is {'within' if p95 < AIM_MS else 'NOT within'} {AIM_MS} ms "
          f"({given.models} models in rollout, {given.predictions:,} predictions)")  # fmt: skip


if __name__ == "__main__":
    main()
