"""Faults and loads that take their time: the head, the database, overload, growing, many rollouts.

For the night, on a platform of their own; the short loops are in ``test_kill_loops``.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
import yaml

from steelyard.bootstrap import Platform
from steelyard.settings import Settings
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.maps import read_map

from .conftest import Home, NewHome
from .made_models import classifier, register, stillborn
from .open_loop import Answer, Load
from .under_fire import (
    OVERRIDE,
    RATE,
    RAY_CONTROLLER,
    asked,
    called,
    kill,
    moment,
    number_of_replicas,
    recorded,
    replicas,
    turns_into,
    until,
)

pytestmark = [
    pytest.mark.alone, pytest.mark.e2e, pytest.mark.nightly, pytest.mark.timeout(600),
]  # fmt: skip
QUICK, SLOW = "quick", "slow"
GOOD, OTHER, STILLBORN = 1, 2, 3
AWAY_S = 15


@pytest.fixture(scope="module")
def home(new_home: NewHome) -> Iterator[Home]:
    """A platform with a quick model of three versions, and one that takes its time."""
    with new_home("length") as home:
        home.ok("up")
        platform = Platform(Settings(home=home.path))
        for content in (classifier(GOOD), classifier(OTHER), stillborn()):
            register(platform, QUICK, content)
        register(platform, SLOW, classifier(1, products=6))
        platform.engine.dispose()
        for model in (QUICK, SLOW):
            home.ok("deploy", f"{model}/1", *OVERRIDE)
        yield home


def _load(home: Home, model: str = QUICK, rate: float = RATE) -> Load:
    return Load(asked(home, model), rate)


def _p99_s(answers: list[Answer]) -> float:
    took = sorted(answer.took_s for answer in answers)
    return took[int(len(took) * 0.99)]


def test_a_database_that_is_away_fails_nobody(home: Home) -> None:
    """Nobody can write to it for 15 s: answers go on, and every record is there afterwards."""
    with _load(home) as load:
        moment(load, load.now_s + 1)
        with closing(sqlite3.connect(home.path / "ledger.db", isolation_level=None)) as database:
            until("the lock", lambda: _locked(database))
            moment(load, load.now_s + AWAY_S)
            database.execute("rollback")
        moment(load, load.now_s + 3)
    assert not load.failed, (load.statuses, load.failed[:3])
    told = {answer.headers["x-prediction-id"] for answer in load.answers}
    until("every record", lambda: told <= recorded(home, QUICK).keys(), 60)


def _locked(database: sqlite3.Connection) -> bool:
    try:
        database.execute("begin exclusive")
    except sqlite3.OperationalError:
        return False
    return True


@pytest.mark.parametrize("part", ["gcs_server", "raylet"])
def test_a_dead_head_comes_back_with_what_served(home: Home, part: str) -> None:
    """All replicas die with it: nobody is refused, or by a 503 that says when to come again."""
    with _load(home) as load:
        moment(load, load.now_s + 1)
        before = replicas(home, QUICK, 1)
        for process in called(home, part):
            if process.name() == part:
                kill(process)
        killed_s = load.now_s
        until("its replicas are gone", lambda: not any(one.is_running() for one in before), 90)
        gone_s = load.now_s
        until("others answer", lambda: load.first_good_since(gone_s + 2), 180)
        moment(load, load.now_s + 5)
    assert load.statuses.keys() <= {0, 200, 502, 503}, (load.statuses, load.failed[:3])
    # HAProxy ends a client's connection without a word when its request was under way.
    assert all(one.due_s < gone_s for one in load.failed if one.status == 0)
    assert all("retry-after" in one.headers for one in load.failed if one.status == 503)
    assert {one.headers["x-model-version"] for one in load.answers if one.status == 200} == {"1"}
    assert all(one.status == 200 for one in load.answers if one.due_s > load.now_s - 3)
    last_s = max((one.due_s for one in load.failed), default=killed_s)
    print(f"{part} killed at {killed_s:.1f} s: {dict(load.statuses)}, its replicas gone after "
          f"{gone_s - killed_s:.1f} s, the last refusal {last_s - killed_s:.1f} s")  # fmt: skip


def test_replicas_follow_the_load(home: Home) -> None:
    """From one to two and back, and by hand: nobody is refused while they come and go."""
    home.ok("serve", "policy", "set", SLOW, "replicas_min=1", "replicas_max=2")
    with Load(asked(home, SLOW), clients=24) as load:
        number_of_replicas(home, SLOW, 2)
        moment(load, load.now_s + 5)
    assert not load.failed, (load.statuses, load.failed[:3])
    with _load(home, SLOW, 5) as few:
        number_of_replicas(home, SLOW, 1)
        for count in (2, 1):
            home.ok("serve", "policy", "set", SLOW, f"replicas_min={count}",
                    f"replicas_max={count}")  # fmt: skip
            number_of_replicas(home, SLOW, count)
        moment(few, few.now_s + 3)
    assert not few.failed, (few.statuses, few.failed[:3])


def test_a_candidate_that_never_starts_leaves_stable_alone(home: Home) -> None:
    """It fails for good, also when both controllers are killed after it (ray#66253, #66290)."""
    with _load(home) as load:
        home.ok("rollout", "start", f"{QUICK}/{STILLBORN}", *OVERRIDE)
        turns_into(home, QUICK, lambda rollout: rollout["ended_us"])
        failed = home.ok("rollout", "status", QUICK)
        for name in (RAY_CONTROLLER, "steelyard_serving.controller"):
            for process in called(home, name):
                kill(process)
        until("the controller is back", lambda: home.pid("controller"))
        moment(load, load.now_s + 10)
    assert failed["condition"] == "failed" and "Reshape" in failed["reason"], failed
    found = home.ok("rollout", "status", QUICK)
    assert {**found, "versions": None} == {**failed, "versions": None}
    assert not replicas(home, QUICK, STILLBORN)
    assert not load.failed, (load.statuses, load.failed[:3])


def test_there_and_back_makes_no_third_copy(home: Home) -> None:
    """A -> B -> A: the same processes answer as before, and A -> A is refused (kuberay#4989)."""
    (first,) = replicas(home, QUICK, GOOD)
    with _load(home) as load:
        _promoted(home)
        home.ok("rollback", QUICK)
        moment(load, load.now_s + 2)
    assert replicas(home, QUICK, GOOD) == [first] and len(replicas(home, QUICK, OTHER)) <= 1
    assert load.answers[-1].headers["x-model-version"] == str(GOOD)
    assert not load.failed, (load.statuses, load.failed[:3])
    again = home.run("rollout", "start", f"{QUICK}/{GOOD}", *OVERRIDE)
    assert again.returncode == 1 and "has all traffic already" in again.stderr


def test_twenty_rollouts_leave_no_route_behind(home: Home) -> None:
    """The edge knows the two versions and their doors, and nothing else (kserve#2130)."""
    with _load(home) as load:
        for _ in range(20):
            _started(home)
            turns_into(home, QUICK, lambda rollout: rollout["weight_bp"])
            home.ok("rollback", QUICK)
        moment(load, load.now_s + 2)
    assert not load.failed, (load.statuses, load.failed[:3])
    files = edge_files(Settings(home=home.path))
    stable, canary, weight, *_ = read_map(files.routes)[QUICK].split("|")
    assert (stable, canary, weight) == (str(GOOD), "", "0")
    assert {key for key in read_map(files.doors) if key.startswith(f"{QUICK}/")} <= {
        f"{QUICK}/{GOOD}", f"{QUICK}/{OTHER}"
    }  # fmt: skip
    mine = {key for key in read_map(files.deployed) if key.startswith(f"{QUICK}/")}
    assert mine <= {f"{QUICK}/{GOOD}", f"{QUICK}/{OTHER}"}
    assert len(replicas(home, QUICK, GOOD)) == 1 and len(replicas(home, QUICK, OTHER)) <= 1


def _started(home: Home) -> None:
    plan = {"preset": "fast", "keep_warm": 600, "steps": [{"weight": 20, "bake": 600},
                                                          {"weight": 100}]}  # fmt: skip
    file = home.path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    home.ok("rollout", "start", f"{QUICK}/{OTHER}", "--plan", str(file), *OVERRIDE)


def _promoted(home: Home) -> None:
    _started(home)
    turns_into(home, QUICK, lambda rollout: rollout["weight_bp"])
    home.ok("rollout", "promote", QUICK, "--full")
    turns_into(home, QUICK, lambda rollout: rollout["ended_us"])
