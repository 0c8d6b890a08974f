"""What becomes of good, slow, wrong, dear, crashing and unasked versions, on the real platform."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
import yaml

from steelyard.bootstrap import Platform
from steelyard.domain.rollout import Rollout
from steelyard.settings import Settings

from .conftest import Home, NewHome
from .made_models import classifier, register

pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.timeout(300)]
MODEL = "stories"
STABLE, GOOD, SLOW, WRONG, DEAR, CRASHING, UNASKED = range(1, 8)
WORK = {SLOW: 40, DEAR: 6}
"""Products of large matrices by version: milliseconds, and many of them."""
PLAN: dict[str, Any] = {
    "preset": "fast", "interval": 1, "keep_warm": 1, "label_maturity": 0,
    "inconclusive_limit": 600,
    "steps": [{"weight": 20, "bake": 2, "min_requests": 30}, {"weight": 50, "bake": 2},
              {"weight": 100}],
    "metrics": [{"name": "errors", "floor": 0.05, "required": True}],
}  # fmt: skip


def file_of(version: int) -> bytes:
    """A classifier of eight classes: the largest input wins, but for the wrong version."""
    return classifier(version, wrong=version == WRONG, products=WORK.get(version, 0))


class Users:
    """Three people after another, each request from another unit; what they were told.

    With ``returning`` there are so many units of each, who come again and again.
    """

    def __init__(self, edge: str, returning: int | None = None) -> None:
        self._returning = returning
        self._url = f"{edge}/v2/models/{MODEL}/infer"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(3)]
        self.answers: list[tuple[str, str, int]] = []
        """Prediction id, version, and the class that is right."""
        self.failed: list[int] = []
        self.met: dict[str, list[str]] = {}
        """Unit -> the versions that answered it, one after the other."""

    def __enter__(self) -> "Users":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _ask(self, number: int) -> None:
        random, count = np.random.default_rng(number), 0
        with httpx2.Client(timeout=30) as client:
            while not self._stop.wait(0.01):
                count += 1
                row = random.random(8)
                tensor = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": row.tolist()}
                unit = f"{number}-{count % self._returning if self._returning else count}"
                headers = {"x-unit-id": unit}
                answer = client.post(self._url, json={"inputs": [tensor]}, headers=headers)
                if answer.status_code != 200:
                    self.failed.append(answer.status_code)
                    continue
                told = answer.headers
                self.met.setdefault(unit, []).append(told["x-model-version"])
                self.answers.append(
                    (told["x-prediction-id"], told["x-model-version"], int(row.argmax()))
                )


@pytest.fixture(scope="module")
def home(new_home: NewHome) -> Iterator[Home]:
    """A platform on which the first version serves."""
    with new_home("stories") as home:
        home.ok("up")
        platform = Platform(Settings(home=home.path))
        for version in range(STABLE, UNASKED + 1):
            assert register(platform, MODEL, file_of(version)) == version
        platform.engine.dispose()
        home.ok("deploy", f"{MODEL}/{STABLE}", "--override-gates", "made for these stories")
        yield home


def rolled_out(home: Home, version: int, *beside: str, **changes: Any) -> None:
    """Start a rollout with the plan and what is different about it, and others beside it."""
    file = home.path / "plan.yaml"
    file.write_text(yaml.safe_dump({**PLAN, **changes}))
    home.ok("rollout", "start", f"{MODEL}/{version}", *beside, "--plan", str(file),
            "--override-gates", "made for these stories")  # fmt: skip


def ended(home: Home, what: Callable[[Rollout], object], seconds: float = 90) -> Rollout:
    """The newest rollout, when it has come so far; read without a command, which takes seconds."""
    platform = Platform(Settings(home=home.path))
    store, deadline = platform.rollout_store, time.monotonic() + seconds
    try:
        while True:
            seen = store.open_rollouts(MODEL) or store.rollouts(MODEL, limit=1)
            if what(found := seen[0].rollout):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
    finally:
        platform.engine.dispose()


def over(rollout: Rollout) -> bool:
    """Whether it has ended."""
    return not rollout.is_open


def all_hold(home: Home) -> None:
    """Every decision is the same when it is made again on its evidence."""
    explained = home.ok("rollout", "explain", MODEL)
    assert explained["all_hold"]
    assert any(one["holds"] for one in explained["decisions"])


def test_a_slow_version_is_rolled_back(home: Home) -> None:
    """Its answers come later than the limit, and stable's do not."""
    with Users(home.edge) as users:
        latency = {"name": "latency", "slo_ms": 25, "tolerance": 1.1, "margin": 1.5}
        rolled_out(home, SLOW, metrics=[*PLAN["metrics"], latency])
        found = ended(home, over)
    assert found.condition == "degraded" and "latency" in found.reason, found
    assert not users.failed
    all_hold(home)


@pytest.mark.nightly
def test_a_dearer_version_is_held(home: Home) -> None:
    """It is as right and in time, but each request takes more of the device: a person decides."""
    with Users(home.edge) as users:
        cost = {"name": "cost", "tolerance": 1.2, "action": "pause"}
        steps = [{"weight": 20, "bake": 15, "min_requests": 30}, {"weight": 100}]
        rolled_out(home, DEAR, steps=steps, metrics=[*PLAN["metrics"], cost])
        found = ended(home, lambda r: r.condition == "paused" or over(r))
        assert found.condition == "paused" and "cost" in found.reason, found
        home.ok("rollout", "abort", MODEL, "--reason", "too dear")
        assert ended(home, over).condition == "degraded"
    assert not users.failed
    all_hold(home)


@pytest.mark.nightly
def test_a_version_whose_replicas_crash_is_rolled_back(home: Home) -> None:
    """They are killed as soon as they are there; users hardly notice."""
    with Users(home.edge):
        steps = [{"weight": 20, "bake": 60, "min_requests": 30}, {"weight": 100}]
        rolled_out(home, CRASHING, steps=steps)
        ended(home, lambda r: r.weight_bp > 0)
        deadline = time.monotonic() + 80
        while not over(found := ended(home, lambda _: True)):
            assert time.monotonic() < deadline, found
            for process in home.processes():
                _kill_replica(process, CRASHING)
    assert found.condition == "degraded", found
    assert any(word in found.reason for word in ("unhealthy", "failed", "guard")), found


def _kill_replica(process: psutil.Process, version: int) -> None:
    try:
        if f"ServeReplica:{MODEL}-v{version}:" in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
    except (psutil.Error, OSError):
        pass


@pytest.mark.nightly
def test_a_version_that_nobody_asks_waits_and_says_why(home: Home) -> None:
    """No data is neither a pass nor a failure; after the deadline a person is asked."""
    rolled_out(home, UNASKED, deadline=12)
    held = ended(home, lambda r: r.reason.startswith("hold"))
    assert held.reason == "hold: needs 30 more canary requests"
    found = ended(home, lambda r: r.condition == "paused" or over(r))
    assert (found.condition, found.cause) == ("paused", "no_data"), found
    home.ok("rollout", "abort", MODEL, "--reason", "nobody came")
    assert ended(home, over).condition == "degraded"


def test_a_wrong_version_is_rolled_back_in_its_probation(home: Home) -> None:
    """It answers fast and well formed, and has all traffic when the first labels come."""
    with Users(home.edge) as users:
        labels = {"name": "labels", "margin": 1.25}
        rolled_out(home, WRONG, probation=120, metrics=[*PLAN["metrics"], labels])
        ended(home, lambda r: r.condition == "probation" or over(r))
        file = home.path / "labels.json"
        rows = [{"prediction_id": i, "class": right} for i, _, right in list(users.answers)]
        file.write_text(json.dumps(rows))
        added = home.ok("labels", "add", str(file), "--source", "reviewers")
        assert added["new"] > 0
        found = ended(home, over)
    assert found.condition == "degraded" and "labels" in found.reason, found
    assert not users.failed
    assert home.ok("models", "show", MODEL)["aliases"]["champion"] == STABLE
    all_hold(home)


@pytest.mark.nightly
def test_a_wrong_version_shows_in_the_shadow_and_the_old_one_in_its_probation(home: Home) -> None:
    """No client meets it when it must not disagree; let through, it loses to the old one's copies.

    The old version answers half of the requests once more, and labels say which of them was right.
    """
    shadow = {"weight": 0, "shadow": 50, "bake": 1, "min_requests": 20}
    platform = Platform(Settings(home=home.path))
    with Users(home.edge) as users:
        limit = {"name": "disagreement", "limit": 0.05, "required": True}
        rolled_out(home, WRONG, steps=[shadow, *PLAN["steps"]],
                   metrics=[*PLAN["metrics"], limit])  # fmt: skip
        found = ended(home, over)
        assert found.condition == "degraded" and "pairs differ" in found.reason, found
        assert {version for _, version, _ in users.answers} == {str(STABLE)}
        rolled_out(home, WRONG, steps=[shadow, *PLAN["steps"]], probation=600, reverse_shadow=50,
                   label_maturity=4, metrics=[*PLAN["metrics"], {"name": "paired"}])  # fmt: skip
        ended(home, lambda r: not r.is_open or _repeats(platform) >= 50)
        file = home.path / "labels.json"
        rows = [{"prediction_id": i, "class": right} for i, _, right in users.answers[-2_000:]]
        file.write_text(json.dumps(rows))
        home.ok("labels", "add", str(file), "--source", "reviewers")
        found = ended(home, over)
    platform.engine.dispose()
    assert found.condition == "degraded" and "only the canary was wrong" in found.reason, found
    assert not users.failed
    all_hold(home)


def _repeats(platform: Platform) -> int:
    """How many copies the old version has answered for the rollout."""
    shown = platform.serving_status.versions(MODEL)
    (found,) = [one.shadow for one in shown if one.version == STABLE]
    return found.compared if found is not None and found.by == "rollout" else 0


def test_a_good_version_is_promoted_and_rolled_back_at_once(home: Home) -> None:
    """It takes all traffic by its proof, and gives it back on a word; nobody is refused."""
    with Users(home.edge) as users:
        rolled_out(home, GOOD, keep_warm=60)
        found = ended(home, over)
        assert found.condition == "healthy", found
        all_hold(home)
        home.ok("rollback", MODEL)
        count = len(users.answers)
        ended(home, over)
        deadline = time.monotonic() + 20
        while len(users.answers) < count + 50 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not users.failed
    assert {version for _, version, _ in users.answers[-20:]} == {str(STABLE)}
    history = home.ok("rollout", "history", MODEL)["promotions"]
    assert [p["to_version"] for p in history] == [STABLE, GOOD, STABLE]


@pytest.mark.nightly
def test_of_two_versions_the_better_one_takes_over(home: Home) -> None:
    """Both grow beside stable, nobody changes between them; the slow one is rolled back alone."""
    with Users(home.edge, returning=60) as users:
        latency = {"name": "latency", "slo_ms": 25, "tolerance": 1.1, "margin": 1.5}
        metrics = [*PLAN["metrics"], latency]
        rolled_out(home, GOOD, f"{MODEL}/{SLOW}", winner="errors", metrics=metrics)
        found = ended(home, over)
    assert (found.candidate, found.condition) == (GOOD, "healthy"), found
    events = home.ok("rollout", "history", MODEL)["events"]
    assert any("latency" in e["reason"] and e["to_condition"] == "aborting" for e in events[-12:])
    assert not users.failed
    good, slow = str(GOOD), str(SLOW)
    assert any(slow in met for met in users.met.values())
    # Whoever had the slow one is given the good one in the end, when all are.
    assert not [met for met in users.met.values() if good in met and slow in met[met.index(good) :]]
