"""The edge and real replicas under open-loop load: killed again and again, and asked too much.

No Ray is needed: replicas are processes with doors of their own, and the test starts the next.
"""

import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import orjson
import psutil
import pytest
from tests.e2e.made_models import SIGNATURE, classifier
from tests.e2e.open_loop import Answer, Asked, Load
from tests.e2e.under_fire import BODY, LARGE, connected, head, moment, too_large, units
from tests.free_ports import free_ports

from steelyard.domain.model_version import ModelVersion
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.edge.config import BUFFER_BYTES
from steelyard_serving.environment import prepare
from steelyard_serving.processes import edge as edge_process
from steelyard_serving.traffic_router import EdgeRouter

from .conftest import until

pytestmark = [pytest.mark.integration, pytest.mark.alone]
MODEL = "m"
RATE = 50.0


class Place:
    """An edge whose route leads to the replicas of one version."""

    def __init__(self, settings: Settings, content: bytes) -> None:
        self._settings = settings
        self.room = settings.replica_request_limit + settings.replica_queue_limit
        """Requests that may be at a replica at once."""
        file = settings.home / "model.onnx"
        file.write_bytes(content)
        version = ModelVersion(
            MODEL, 1, "run", "test", file.name, sha256(content).hexdigest(), len(content), "fp32",
            "trained", SIGNATURE, 1,
        )  # fmt: skip
        self._order = settings.home / "order"
        self._order.write_bytes(pickle.dumps((ServedVersion(version, file), settings)))
        self._edge: subprocess.Popen[bytes] | None = None
        self.replicas: list[subprocess.Popen[bytes]] = []
        self.url = settings.edge_url
        self.asked = Asked(f"{self.url}/v2/models/{MODEL}/infer", BODY, units)

    def add_replica(self) -> None:
        """One more, the newest; returns when its door is open."""
        command = [sys.executable, str(Path(__file__).parent / "replica.py"), str(self._order)]
        made = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.replicas.append(made)
        assert made.stdout is not None and made.stdout.readline() == b"open\n"

    def kill_oldest(self) -> None:
        """Kill -9."""
        oldest = self.replicas.pop(0)
        oldest.kill()
        oldest.communicate()

    def open(self) -> None:
        """Start the edge and route all traffic to the version."""
        spec = edge_process(self._settings)
        with (self._settings.log_dir / "edge.log").open("wb") as log:
            self._edge = subprocess.Popen(
                spec.command, env=dict(spec.environment), stdout=log, stderr=log
            )
        until("the edge is there", self._settings.run_dir.joinpath("edge-admin.sock").exists)
        route = Route(MODEL, 1, 1, lineage="r1")
        EdgeRouter(self._settings).apply({MODEL: route}, frozenset({(MODEL, 1)}))

    def memory(self) -> int:
        """Bytes that the edge and the replicas have in memory."""
        assert self._edge is not None
        edge = psutil.Process(self._edge.pid)
        replicas = [psutil.Process(one.pid) for one in self.replicas]
        own = [edge, *edge.children(recursive=True), *replicas]
        return sum(int(process.memory_info().rss) for process in own)

    def recorded(self) -> list[str]:
        """The ids of all good answers that replicas spooled."""
        lines = [line for file in self._settings.spool_dir.glob("*.jsonl")
                 for line in file.read_bytes().splitlines()]  # fmt: skip
        facts = map(orjson.loads, lines)
        return [one["prediction_id"] for one in facts
                if one["fact"] == "prediction" and one["status"] == 200]  # fmt: skip

    def end_replicas(self) -> None:
        """Ask them to end, so that the last of what they counted is written."""
        for one in self.replicas:
            one.terminate()
        for one in self.replicas:
            one.communicate()
        self.replicas.clear()

    def close(self) -> None:
        """End everything."""
        self.end_replicas()
        if self._edge is not None:
            self._edge.terminate()
            self._edge.wait()


@contextmanager
def placed(content: bytes) -> Iterator[Place]:
    """A place without replicas yet, in a home of its own with a short path."""
    home = Path(tempfile.mkdtemp(prefix="syl-"))
    settings = Settings(
        home=home, edge_port=free_ports(1)[0], serve_ports_from=20_000, replica_request_limit=16,
        replica_queue_limit=48,
    )  # fmt: skip
    prepare(settings)
    place = Place(settings, content)
    try:
        place.add_replica()
        place.open()
        yield place
    finally:
        place.close()
        shutil.rmtree(home)


def test_killed_replicas_cost_nobody_an_answer() -> None:
    """The older of two is killed as soon as there are two again: no request fails (F1)."""
    kills = 3
    with placed(classifier(1)) as place, Load(place.asked, RATE) as load:
        for number in range(kills):
            place.add_replica()
            moment(load, max(load.now_s + 0.5, 3 * number))
            place.kill_oldest()
        moment(load, load.now_s + 1)
    assert not load.failed, (load.statuses, load.failed[:3])
    assert len(load.answers) >= RATE * 3 * (kills - 1)


@pytest.mark.nightly
def test_overload_is_shed_and_forgotten() -> None:
    """At three times what it can do, as much is done, the rest is told when to come again (F22).

    Half a minute of it. Nobody waits for longer than the full queue takes, all is well at once
    afterwards, and every answer is on record.
    """
    with placed(classifier(1, products=6)) as place:
        before = _closed(place)
        capacity = _rate(before.answers, 5)
        with Load(place.asked, 3 * capacity) as over:
            moment(over, 30)
            end_s = over.now_s
        with Load(place.asked, capacity / 4) as after:
            moment(after, 7)
        again = _closed(place)
        place.end_replicas()
        recorded = place.recorded()
    good = [one for one in over.answers if one.status == 200]
    # The machine's other work comes and goes.
    capacity = min(capacity, _rate(again.answers, 5))
    _tell(capacity, over, good, end_s)
    assert not before.failed + again.failed and over.statuses.keys() == {200, 503}
    assert all(int(one.headers["retry-after"]) >= 1 for one in over.failed)
    assert _rate(good, end_s) >= 0.8 * capacity
    assert max(one.took_s for one in good) < 2 * place.room / capacity + 1
    assert all(one.status == 200 for one in after.answers if one.due_s > 5), after.statuses
    told = [one.headers["x-prediction-id"]
            for load in (before, over, after, again) for one in load.answers
            if one.status == 200]  # fmt: skip
    assert sorted(recorded) == sorted(told)


@pytest.mark.nightly
def test_slow_and_oversized_requests_harm_nobody_else() -> None:
    """A hundred that send a byte a second, and bodies of 64 MiB: others do not notice (F21)."""
    with placed(classifier(1)) as place:
        with Load(place.asked, RATE) as before:
            moment(before, 8)
        memory = place.memory()
        with ExitStack() as stack, Load(place.asked, RATE) as load:
            slow = [stack.enter_context(connected(place.url)) for _ in range(100)]
            for one in slow:
                one.sendall(head(MODEL, "content-length: 1000"))
            for second in range(1, 9):
                moment(load, second)
                for one in slow:
                    one.sendall(b" ")
                for length in (f"content-length: {LARGE}", "transfer-encoding: chunked"):
                    assert too_large(place.url, MODEL, length) == b"HTTP/1.1 413"
        grown = place.memory() - memory
    print(f"p99 {_p99_s(before.answers):.4f} s, with slow clients {_p99_s(load.answers):.4f} s, "
          f"memory of edge and replica {grown / 2**20:+.1f} MiB")  # fmt: skip
    assert not load.failed, (load.statuses, load.failed[:3])
    assert _p99_s(load.answers) < 2 * _p99_s(before.answers) + 0.1
    # The edge may hold a buffer or two for each of them.
    assert grown < 10 * 2**20 + 200 * BUFFER_BYTES


def _p99_s(answers: list[Answer]) -> float:
    took = sorted(answer.took_s for answer in answers)
    return took[int(len(took) * 0.99)]


def _closed(place: Place) -> Load:
    """Sixteen clients that ask one request after another."""
    with Load(place.asked, clients=16) as load:
        moment(load, 5)
    return load


def _rate(good: list[Answer], end_s: float) -> float:
    """Good answers a second, without the first two."""
    return sum(2 < one.ended_s <= end_s for one in good) / (end_s - 2)


def _tell(capacity: float, over: Load, good: list[Answer], end_s: float) -> None:
    print(f"capacity {capacity:.1f}/s, goodput {_rate(good, end_s) / capacity:.2f} of it, "
          f"{dict(over.statuses)}, p99 of the accepted {_p99_s(good):.2f} s, "
          f"longest refusal {max(one.took_s for one in over.failed):.3f} s")  # fmt: skip
