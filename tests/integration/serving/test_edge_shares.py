"""The edge among several candidates: its C arithmetic against the Python rule."""

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from steelyard.domain.traffic import Route, Share, bucket, choose, in_order
from steelyard.settings import Settings
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.maps import route_of
from steelyard_serving.environment import prepare
from steelyard_serving.secret_files import bucket_key
from steelyard_serving.traffic_router import EdgeRouter

from .conftest import Edge
from .test_edge_upstream import _ports

AtDoor = Callable[[Settings, str, Iterable[int], int], None]

pytestmark = pytest.mark.integration
GENERATIONS = count(1)
TOLD = ("arm", "bucket", "generation", "lineage")
UNITS = [*(f"unit {n}" for n in range(150)), "ünïcode", "a|b"]
TABLES = {
    "none": [],
    "one": [Share(2, 0, 500)],
    "one with all": [Share(2, 0, 10_000)],
    "one whose sibling ended": [Share(3, 5_000, 2_500)],
    "two": [Share(2, 0, 2_500), Share(3, 5_000, 5_000)],
    "two not from the first bucket on": [Share(2, 1_000, 1), Share(3, 3_333, 3_333)],
    "four with all": [Share(version, (5 - version) * 2_500, 2_500) for version in (5, 4, 3, 2)],
    "four": [Share(2, 100, 2_400), Share(3, 2_500, 1), Share(4, 5_000, 50), Share(5, 7_500, 2_499)],
}


class _Replica(BaseHTTPRequestHandler):
    """Answers with the version that was asked, and what the edge told it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Any path."""
        self.rfile.read(int(self.headers["content-length"]))
        told = {name: self.headers[f"x-steelyard-{name}"] for name in TOLD}
        body = json.dumps({"version": int(self.path.split("/")[3]), **told}).encode()
        self.send_response(200)
        self.send_header("x-steelyard-answer", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def edge_settings(at_door: AtDoor) -> Iterator[Settings]:
    """An edge of our own in front of a replica that says what it was told."""
    home = Path(tempfile.mkdtemp(prefix="sys-"))
    edge_port, replica = _ports(2)
    settings = Settings(home=home, edge_port=edge_port)
    prepare(settings)
    at_door(settings, "m", range(1, 6), replica)
    server = ThreadingHTTPServer(("127.0.0.1", replica), _Replica)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    process = Edge(settings)
    process.start()
    yield settings
    process.kill()
    server.shutdown()
    thread.join()
    server.server_close()
    shutil.rmtree(home)


@pytest.mark.parametrize("shares", TABLES.values(), ids=TABLES)
def test_every_unit_lands_where_the_rule_says(edge_settings: Settings, shares: list[Share]) -> None:
    """With up to four candidates, wherever their buckets lie; the replica is told the arm."""
    live = Route("m", 1, next(GENERATIONS), in_order(shares), "r1")
    EdgeRouter(edge_settings).apply({"m": live}, frozenset({("m", n) for n in range(1, 6)}))
    key = bucket_key(edge_settings)
    door = HTTPConnection(edge_settings.host, edge_settings.edge_port, timeout=30)
    for unit in UNITS:
        position = bucket(key, "r1", unit)
        arm, version = choose(live, position)
        door.request("POST", "/v2/models/m/infer", b"{}", {"x-unit-id": unit.encode()})
        told = json.load(door.getresponse())
        assert told == {
            "version": version, "arm": arm, "bucket": str(position), "lineage": "r1",
            "generation": str(live.generation),
        }, unit  # fmt: skip
    door.close()


def test_the_edges_own_line_says_the_whole_table(edge_settings: Settings) -> None:
    """What is on disk for a restarted edge reads back as the route that was asked for."""
    router, deployed = EdgeRouter(edge_settings), frozenset({("m", 1)})
    for shares in TABLES.values():
        route = Route("m", 1, next(GENERATIONS), in_order(shares), "r1")
        router.apply({"m": route}, deployed)
        _, _, line = edge_files(edge_settings).routes.read_text().partition(" ")
        assert route_of("m", line.strip()) == route


def test_clearml_a_weight_is_live_for_the_request_after_it(edge_settings: Settings) -> None:
    """Nothing is polled: once a table is applied, no request is answered by the one before."""
    router, ready = EdgeRouter(edge_settings), frozenset({("m", n) for n in (1, 2)})
    door = HTTPConnection(edge_settings.host, edge_settings.edge_port, timeout=30)
    for turn in range(50):
        shares = (Share(2, 0, 10_000),) if turn % 2 else ()
        router.apply({"m": Route("m", 1, next(GENERATIONS), shares, "r1")}, ready)
        door.request("POST", "/v2/models/m/infer", b"{}", {"x-unit-id": f"unit {turn}"})
        assert json.load(door.getresponse())["version"] == (2 if turn % 2 else 1)
    door.close()
