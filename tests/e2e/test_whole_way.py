"""The embedded platform as a person uses it, through the real command line, on real data."""

import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from steelyard.bootstrap import Platform
from steelyard.settings import Settings

from .conftest import ROOT, STEELYARD, Home, NewHome
from .under_fire import until

pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.timeout(600)]
NEXT = """
model: digits
recipe: digits_cnn
train: {epochs: 6, seed: 1}
scaling: {workers: 1}
rollout: {preset: fast}
"""
"""Another version, which is to take the traffic of the one that serves."""


class Load:
    """A steady client: one request after another, and what came back."""

    def __init__(self, home: Home, pause_s: float = 0.015) -> None:
        self._pause_s = pause_s
        self._url = f"{home.edge}/v2/models/digits/infer"
        self._body = (ROOT / "examples" / "digit.json").read_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: list[int] = []
        self.ids: list[tuple[str, str]] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx2.Client(timeout=30) as client:
            while not self._stop.wait(self._pause_s):
                try:
                    answer = client.post(self._url, content=self._body)
                except httpx2.TransportError:
                    self.statuses.append(0)
                    continue
                self.statuses.append(answer.status_code)
                if answer.status_code == 200:
                    headers = answer.headers
                    self.ids.append((headers["x-prediction-id"], headers["x-model-version"]))


@pytest.fixture(scope="module")
def home(new_home: NewHome) -> Iterator[Home]:
    """A platform with a trained version 1 that serves."""
    with new_home("e2e") as home:
        home.ok("up")
        home.ok("train", "examples/digits.yaml")
        home.ok("deploy", "digits/1")
        yield home


def serving(home: Home) -> int:
    """The version that has all traffic."""
    return int(home.ok("models", "show", "digits")["aliases"]["champion"])


def test_killed_controller_continues_the_rollout_that_training_started(home: Home) -> None:
    """``train`` ends with its version on the way; kill -9 of the controller: the same rollout.

    It stands at the same step, goes on to the next by itself, and to the end when told to.
    """

    def rollout(holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = home.ok("rollout", "status", "digits")
            return found if holds(found) else None

        return until("the rollout", look, 120)

    def restarted() -> bool:
        return home.pid("controller") not in (None, victim)

    file = home.path / "next.yaml"
    file.write_text(NEXT)
    trained = home.ok("train", str(file))
    started = trained["afterwards"]["rollout"]
    assert (trained["version"], started["preset"]) == (2, "fast")
    with Load(home, pause_s=0.5) as few:  # too few for the step's twenty canary requests
        before = rollout(lambda r: r["step"] == 0 and r["confirmed_us"])
        victim = home.pid("controller")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        until("another controller", restarted)
        after = rollout(lambda r: True)
        for name in ("rollout_id", "step", "confirmed_us", "generation"):
            assert after[name] == before[name], name
    with Load(home) as load:
        rollout(lambda r: r["step"] == 1 and r["confirmed_us"])
        home.ok("rollout", "promote", "digits", "--full")
        ended = rollout(lambda r: r["ended_us"])
    assert ended["rollout_id"] == started["rollout_id"]
    assert ended["condition"] == "healthy"
    assert serving(home) == 2
    assert set(few.statuses + load.statuses) == {200}
    history = home.ok("rollout", "history", "digits")
    assert [p["to_version"] for p in history["promotions"]][-1] == 2


def test_prediction_is_traced_to_version_run_and_rollout(home: Home) -> None:
    """Each answer's id leads to the version that the client was told, its run and its step."""
    with Load(home) as load:
        until("answers", lambda: len(load.ids) > 5)
    identity, version = load.ids[-1]
    trace = home.ok("audit", "show", identity)
    assert trace["prediction"]["version"] == int(version)
    assert trace["version"]["run_id"]
    assert trace["rollout"]["rollout_id"]
    assert trace["cost_nano"] > 0


def test_killed_replica_recovers_and_its_cost_is_complete(home: Home) -> None:
    """A replica killed under load: answers come back within seconds, its time stays charged."""
    with Load(home) as load:
        until("answers", lambda: len(load.ids) > 20)
        replicas = [
            p for p in home.processes() if "ServeReplica" in " ".join(p.cmdline() or [p.name()])
        ]
        assert replicas
        for replica in replicas:
            replica.kill()
        seen = len(load.ids)
        until("more answers", lambda: len(load.ids) > seen + 20)
    assert sum(status != 200 for status in load.statuses) <= 2
    with sqlite3.connect(home.path / "ledger.db") as database:
        until("recorded inference", lambda: database.execute(
            "select count(*) from inferred_window").fetchone()[0])  # fmt: skip
    assert home.ok("ledger", "verify")["ok"]


def test_killed_edge_comes_back_with_its_weights(home: Home) -> None:
    """The router killed under load: the supervisor starts it again, with the same version."""
    version = serving(home)
    with Load(home) as load:
        until("answers", lambda: len(load.ids) > 20)
        edge = home.pid("edge")
        assert edge is not None
        os.killpg(edge, signal.SIGKILL)
        seen = len(load.ids)
        until("more answers", lambda: len(load.ids) > seen + 20)
    assert {answered for _, answered in load.ids} == {str(version)}


def test_up_twice_changes_nothing(home: Home) -> None:
    """A second ``up`` says that it is up, and starts no second supervisor."""
    before = {r["name"]: r["pid"] for r in home.ok("status")["processes"]}
    done = home.run("up")
    assert done.returncode == 0
    assert "up already" in done.stderr
    assert {r["name"]: r["pid"] for r in home.ok("status")["processes"]} == before


def test_everything_killed_comes_back_with_the_last_desired_state(home: Home) -> None:
    """Kill -9 of every process: the next ``up`` cleans up and serves the same version."""
    version = serving(home)
    for process in home.processes():
        if process.is_running():
            process.kill()
    until("nothing is up", lambda: not home.ok("status")["up"])
    home.ok("up")

    def answered() -> str | None:
        body = (ROOT / "examples" / "digit.json").read_bytes()
        try:
            answer = httpx2.post(f"{home.edge}/v2/models/digits/infer", content=body, timeout=30)
        except httpx2.TransportError:  # the edge may be restarted while everything comes up
            return None
        return answer.headers["x-model-version"] if answer.status_code == 200 else None

    assert until("an answer", answered, 90) == str(version)


def test_refusals_say_what_to_do(home: Home) -> None:
    """What cannot be done is refused with the reason and the way out, and changes nothing."""
    stable = serving(home)
    refused = (
        (("deploy", "digits/99"), 1, "no version 99"),
        (("deploy", "nothing/1"), 1, "no model 'nothing'"),
        (("deploy", f"digits/{stable}"), 1, "rollout start"),
        (("rollout", "start", f"digits/{stable}"), 1, "has all traffic already"),
        (("rollout", "start", f"digits/{3 - stable}", "--steps", "50,20,100"), 2, "grow"),
        (("rollout", "pause", "digits"), 1, "is healthy, so this cannot be done: pause"),
        (("compress", "digits/1", "--variant", "int3"), 2, "int8_static"),
        (("predict", "nothing", "--data", "examples/digit.json"), 1, "nothing"),
        (("audit", "show", "unknown", "--wait", "0"), 1, "no prediction"),
        (("ledger", "report", "--model", "nothing"), 1, "It knows: digits"),
    )
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda one: home.run(*one[0]), refused))
    for (arguments, code, said), done in zip(refused, ended, strict=True):
        assert done.returncode == code, f"{arguments}: {done.stderr}"
        assert said in done.stderr.replace("\n", " "), f"{arguments}: {done.stderr}"
        assert "Traceback" not in done.stderr


def test_second_rollout_of_a_model_is_refused(home: Home) -> None:
    """One rollout a model at a time; rollback by hand returns all traffic to stable."""
    stable = serving(home)
    start = ("rollout", "start", f"digits/{3 - stable}", "--steps", "10,100", "--bake", "300")
    home.ok(*start)
    again = home.run(*start)
    assert again.returncode == 1
    assert "promote or abort it first" in again.stderr
    assert home.ok("rollback", "digits", "--reason", "rehearsal")["serving"] == stable


def test_report_comes_from_the_entries(home: Home, new_home: NewHome) -> None:
    """Entries that go are named by ``verify``, and missing in sums that are made anew."""
    report = home.ok("ledger", "report", "--model", "digits")["models"][0]
    assert report["training"]["cost_nano"] > 0
    assert report["serving"]["cost_nano"] > 0
    with new_home("copy") as copy:
        with sqlite3.connect(home.path / "ledger.db") as source:
            with sqlite3.connect(copy.path / "ledger.db") as target:
                source.backup(target)
                target.execute("drop trigger entry_no_delete")
                target.execute("delete from entry where seq <= 20")
            target.close()
        done = copy.run("ledger", "verify")
        assert done.returncode == 1
        assert "entry 1 is missing" in done.stderr
        books = Platform(Settings(home=copy.path))
        books.ledger.rebuild()
        books.engine.dispose()
        changed = copy.ok("ledger", "report", "--model", "digits")["models"][0]
        assert changed["training"]["cost_nano"] != report["training"]["cost_nano"]


def test_taken_port_is_named(new_home: NewHome) -> None:
    """A port in use is refused before anything starts, with the setting to change."""
    with new_home("taken") as other:
        with socket.create_server(("127.0.0.1", int(other.edge.rsplit(":", 1)[1]))):
            done = other.run("up")
        assert done.returncode == 1
        assert "edge_port" in done.stderr
        assert "STEELYARD_EDGE_PORT" in done.stderr
        assert not other.processes()


def test_interrupted_up_leaves_nothing(new_home: NewHome) -> None:
    """Ctrl-C while the platform starts: exit 130, and no process is left."""
    with new_home("interrupted") as other:
        process = subprocess.Popen(
            [STEELYARD, "up"], env=other.environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        until("processes", lambda: len(other.processes()) > 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert not other.processes()
