"""HAProxy and the edge in Python before one upstream: the same requests, the same answers."""

import hashlib
import itertools
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.free_ports import free_ports

from steelyard.domain.api_key import ApiKey
from steelyard.domain.pin import Pin
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.traffic import Route, Share, bucket, choose
from steelyard.settings import Settings
from steelyard_serving.environment import prepare
from steelyard_serving.secret_files import bucket_key, pin_key
from steelyard_serving.traffic_router import EdgeRouter

from .conftest import MODEL, Client, Edge

pytestmark = pytest.mark.integration
LIMIT_BYTES = 4096
SECRET = "s" * 43
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
ROUTES = {
    "whole": Route("whole", 1, 5, lineage="r0"),
    "parted": Route("parted", 1, 9, (Share(2, 0, 3000), Share(3, 6000, 2500)), "r-7"),
    "gone": Route("gone", 4, 2, lineage="r2"),
    "falls": Route("falls", 1, 3, (Share(9, 0, 10_000),), "r3"),
}
DEPLOYED = frozenset({("whole", 1), ("whole", 53), ("whole", 54), ("parted", 1), ("parted", 2),
                      ("parted", 3), ("unrouted", 8), ("falls", 1)})  # fmt: skip
POLICIES = {
    "parted": ServingPolicy(unit_header="x-user", unit_field="parameters.user",
                            rules="x-team=beta*:3, x-team=no:7"),
}  # fmt: skip
TRANSPORT = ("connection", "keep-alive", "date", "transfer-encoding", "x-prediction-id")
PRIVATE = ("arm", "bucket", "generation", "lineage", "unit")
ANSWERS = {53: 520, 54: 504}
"""Version -> the status of its replica; others answer 200."""


class Echo(BaseHTTPRequestHandler):
    """A replica's place: its answer is what it was asked."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece: the kernel would hold the second back

    def do_POST(self) -> None:
        """Say what was asked of which version, and the body."""
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(self.rfile.readline(), 16):
                sent += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        _, _, model, version, what = self.path.partition("?")[0].split("/")
        told = {name: self.headers[f"x-steelyard-{name}"] for name in PRIVATE}
        known = [
            name for name in ("x-unit-id", "x-api-key", "content-type") if name in self.headers
        ]
        # As a replica has it: what it does not know asks for its metadata.
        asked = what if what in ("infer", "invocations", "ready", "stats") else ""
        self._say(ANSWERS.get(int(version), 200), version, orjson.dumps(
            {"model": model, "version": version, "asked": asked, "told": told, "known": known,
             "mark": self.headers["x-steelyard-internal"], "sent": sent.decode("latin-1")}
        ))  # fmt: skip

    def _say(self, status: int, version: str, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in (("x-steelyard-answer", "1"), ("x-model-version", version),
                            ("server", "echo"), ("x-request-id", "7"), ("retry-after", "9"),
                            ("content-type", "application/json"),
                            ("content-length", str(len(body)))):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        """As a POST without a body."""
        self.do_POST()

    def do_HEAD(self) -> None:
        """As a GET, but for the answer's body."""
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Quiet(ThreadingHTTPServer):
    """An upstream to which connections may end at any time."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """An edge drops connections that it does not need any more."""


class Found(NamedTuple):
    """An answer, without what differs from one connection to the next."""

    status: int
    headers: dict[str, str]
    body: bytes
    has_id: bool


@dataclass(frozen=True)
class Door:
    """An edge that runs."""

    settings: Settings
    edge: Edge

    @classmethod
    def started(cls, kind: Literal["haproxy", "python"], replicas: int) -> "Door":
        """An edge before replicas that all answer at one port; the keys are always the same."""
        (port,) = free_ports(1)
        made = Settings(
            home=Path(tempfile.mkdtemp(prefix="syb-")), edge=kind, edge_port=port,
            default_model="whole", body_limit_bytes=LIMIT_BYTES,
        )  # fmt: skip
        made.secret_dir.mkdir(mode=0o700)
        for name in ("bucket.key", "pin.key"):
            (made.secret_dir / name).write_text("ab" * 32)
        prepare(made)
        (made.run_dir / "doors").mkdir(mode=0o700)
        for model, version in DEPLOYED:
            (made.run_dir / "doors" / f"{model}-v{version}").write_text(str(replicas))
        door = cls(made, Edge(made))
        door.edge.start()
        EdgeRouter(made).apply(ROUTES, DEPLOYED)
        EdgeRouter(made).steer(POLICIES, DEPLOYED)
        return door

    def ask(self, raw: bytes) -> Found:
        """Send these very bytes, and read until the edge closes."""
        with socket.create_connection(("127.0.0.1", self.settings.edge_port), timeout=30) as wire:
            wire.sendall(raw)
            with suppress(ConnectionResetError):
                found = b"".join(iter(lambda: wire.recv(65536), b""))
        head, _, body = found.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        kept = {name: one for name, one in headers.items() if name not in TRANSPORT}
        return Found(int(first.split()[1]), kept, body, bool(headers.get("x-prediction-id")))


@pytest.fixture(scope="module")
def doors() -> Iterator[dict[str, Door]]:
    """Both edges, with the same routes, policies and keys."""
    upstream = Quiet(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=upstream.serve_forever, args=(0.05,))
    thread.start()
    made: dict[str, Door] = {}
    try:
        for kind in ("haproxy", "python"):
            made[kind] = Door.started(kind, upstream.server_port)
        yield made
    finally:
        for door in made.values():
            door.edge.kill()
            shutil.rmtree(door.settings.home)
        upstream.shutdown()
        upstream.server_close()
        thread.join()


def request(method: str, path: str, *lines: str, body: bytes = b"", length: bool = True) -> bytes:
    """A request's bytes; ``length`` says how long the body is."""
    if length and (body or method == "POST"):
        lines = (*lines, f"content-length: {len(body)}")
    head = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


WHOLE, PARTED = "/v2/models/whole", "/v2/models/parted"
PATHS = (
    "/", "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/health", "/ping", "/health",
    "/version", "/v2/repository/index", "/v2/repository/models/whole/load",
    "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region", "/v2/trace/setting",
    "/v2/logging", "/v2/models", "/v2/models/", "/v2/models/stats", WHOLE, f"{WHOLE}/",
    f"{WHOLE}/ready", f"{WHOLE}/stats", f"{WHOLE}/infer", f"{WHOLE}/infer/", f"{WHOLE}/other",
    f"{WHOLE}/ready?a=b", f"{WHOLE}/versions/1", f"{WHOLE}/versions/1/infer",
    f"{WHOLE}/versions/1/ready", f"{WHOLE}/versions/01/ready", f"{WHOLE}/versions/9/infer",
    f"{WHOLE}/versions/9", f"{WHOLE}/versions/x/infer", f"{WHOLE}/versions/",
    "/v2/models/none/infer", "/v2/models/none", "/v2/models/none/versions/2/infer",
    "/v2/models/unrouted/versions/8/infer", "/v2/models/unrouted/infer", "/v2/models/WHOLE",
    "/v2/models/-a/infer", "/v2/models/a-/infer", f"/v2/models/{'a' * 64}",
    f"/v2/models/{'a' * 65}", "/v2/models/wh%6fle", "//v2/models/whole",
    "/models/whole/invocations", "/models/none/invocations", "/v2/models/falls/infer",
    "/models/whole", "/invocations", "/invocations/", "/v/whole/1/infer", "/-/routes", "/metrics",
)  # fmt: skip
TABLE = [request(method, path) for path in PATHS for method in ("GET", "POST")] + [
    request("HEAD", "/v2/health/ready"),
    request("HEAD", f"{WHOLE}/ready"),
    request("PUT", f"{WHOLE}/ready"),
    request("DELETE", "/v2"),
    request("OPTIONS", f"{WHOLE}/infer"),
    request("POST", "/v2/repository/index", body=b'{"ready":true}'),
    request("POST", "/v2/repository/index", body=b'{"ready":false}'),
    request("POST", "/v2/repository/index", body=b'{"ready":"true"}'),
    request("POST", "/v2/repository/index", body=b"no"),
    request("POST", f"{WHOLE}/infer", body=b'{"inputs":[]}'),
    request("POST", f"{WHOLE}/infer", "content-type: a/b", body=b"\x00\x01"),
    request("POST", f"{WHOLE}/versions/54/infer", body=b"a"),
    request("POST", f"{WHOLE}/versions/53/infer", body=b"a"),
    request("POST", f"{WHOLE}/infer", body=b"a" * LIMIT_BYTES),
    request("POST", f"{WHOLE}/infer", body=b"a" * (LIMIT_BYTES + 1)),
    request("POST", "/invocations", body=b"a" * (LIMIT_BYTES + 1)),
    request("POST", f"{WHOLE}/infer", "content-length: 99999999999", length=False),
    request("POST", f"{WHOLE}/infer", "transfer-encoding: chunked", length=False,
            body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
    request("POST", f"{WHOLE}/infer", f"x-unit-id: {'u' * 256}"),
    request("POST", f"{WHOLE}/infer", f"x-unit-id: {'u' * 257}"),
    request("GET", f"{WHOLE}/versions/1", f"x-unit-id: {'u' * 257}"),
    request("POST", f"{WHOLE}/infer", "x-unit-id:"),
    request("POST", f"{PARTED}/infer", "x-unit-id: one", "x-unit-id: two"),
    request("POST", f"{PARTED}/infer", "x-unit-id:   spaced \t"),
    request("POST", f"{PARTED}/infer", "x-unit-id: a,b|c"),
    request("POST", f"{WHOLE}/infer", "x-steelyard-arm: pinned", "X-Steelyard-Internal: 1",
            "x-prediction-id: mine", "x-steelyard-bucket: 3"),
    request("POST", f"{PARTED}/versions/2/infer", "x-unit-id: one"),
    request("GET", PARTED, "x-unit-id: one"),
    request("POST", f"{WHOLE}/infer", "authorization: Basic YTpi"),
    request("POST", f"{WHOLE}/infer", "x-api-key: sy_no"),
    request("POST", f"{PARTED}/infer", "x-user: ada"),
    request("POST", f"{PARTED}/infer", "x-user: ada", "x-unit-id: bob"),
    request("POST", f"{PARTED}/infer", f"x-user: {'u' * 257}"),
    request("POST", f"{PARTED}/infer", body=b'{"parameters":{"user":"cy"}}'),
    request("POST", f"{PARTED}/infer", "x-team: beta-2", "x-unit-id: bob"),
    request("POST", f"{PARTED}/infer", "x-team: no", "x-unit-id: bob"),
    request("GET", PARTED, "x-team: beta-2", "x-unit-id: bob"),
    request("POST", "/v2/models/falls/infer", "x-unit-id: bob"),
    request("GET", "/v2/models/falls", "x-steelyard-pin: 1"),
    request("GET", "/v2/models/none", "x-steelyard-pin: 1.2.3"),
    request("POST", f"{WHOLE}/infer", "connection: upgrade", "upgrade: h2c"),
]  # fmt: skip
MALFORMED = [
    b"GET / HTTP/9\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET /v2\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: a\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nhost x\r\n\r\n",
]


def without_chance(found: Found) -> Found:
    """Without the bucket of a request that has no unit, and without lengths: it is drawn anew."""
    headers = {name: one for name, one in found.headers.items() if name != "content-length"}
    if not found.body and found.headers.get("content-length", "0") != "0":
        return found._replace(headers=headers)  # the answer to a HEAD
    if b'"told"' not in found.body:
        return found
    said = orjson.loads(found.body)
    if said["told"]["unit"] is None:
        said["told"]["bucket"] = None
    return found._replace(body=orjson.dumps(said), headers=headers)


def differing(doors: dict[str, Door], raw: bytes) -> str:
    """What the two edges answer differently; empty: nothing."""
    first, second = (without_chance(door.ask(raw)) for door in doors.values())
    return "" if first == second else f"{raw[:90]!r}:\n  haproxy {first}\n  python  {second}"


def told(found: Found) -> dict[str, str]:
    """What the replica was told."""
    said: dict[str, str] = orjson.loads(found.body)["told"]
    return said


def test_both_edges_answer_alike(doors: dict[str, Door]) -> None:
    """Status, headers and body, and what the replica is asked, are the same for every request."""
    assert len(TABLE) > 140
    differences = [text for raw in TABLE if (text := differing(doors, raw))]
    assert not differences, "\n".join(differences)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(
        ["v2", "models", "whole", "none", "parted", "versions", "1", "9", "infer", "ready", "stats",
         "invocations", "ping", "repository", "index", "", ".", "%2f", "a?b", "health"]
    ), max_size=7),
    st.sampled_from(["GET", "POST", "HEAD"]),
)  # fmt: skip
def test_both_edges_understand_paths_alike(
    doors: dict[str, Door], words: list[str], method: str
) -> None:
    """Whatever stands between the slashes."""
    raw = request(method, "/" + "/".join(words), "x-unit-id: ada")
    assert not differing(doors, raw)


def test_both_edges_refuse_what_is_not_http(doors: dict[str, Door]) -> None:
    """With 400, before anything is asked; HAProxy has a page of its own for some of it."""
    for raw in MALFORMED:
        assert {door.ask(raw).status for door in doors.values()} == {400}, raw


def test_an_offer_of_another_protocol_takes_no_body_with_it(doors: dict[str, Door]) -> None:
    """The edge in Python reads nothing after such a head: it says so, and ends the connection."""
    door = doors["python"]
    offer = b"host: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    with_body = (
        b"POST /v2/models/whole/infer HTTP/1.1\r\n" + offer + b"content-length: 4\r\n\r\nrows"
    )
    found = door.ask(with_body)
    assert found.status == 400 and b"without the header Upgrade" in found.body
    assert door.ask(b"GET /v2/models/whole HTTP/1.1\r\n" + offer + b"\r\n").status == 200


def test_both_edges_give_a_unit_the_version_of_the_rule(doors: dict[str, Door]) -> None:
    """Text, bytes that are no text and separators are drawn as `domain.traffic` draws them."""
    route = ROUTES["parted"]
    for unit in [f"unit {n}" for n in range(150)] + ["ünï", "a|b", "\udcff\udcfe"]:
        sent = unit.encode(errors="surrogateescape").decode("latin-1")
        raw = request("POST", f"{PARTED}/infer", f"x-unit-id: {sent}")
        for kind, door in doors.items():
            position = bucket(bucket_key(door.settings), route.lineage, unit)
            found = door.ask(raw)
            arm, version = choose(route, position)
            assert found.headers["x-model-version"] == str(version), (kind, unit)
            assert (told(found)["arm"], told(found)["bucket"]) == (arm, str(position))


def test_both_edges_take_the_same_pins(doors: dict[str, Door]) -> None:
    """One that is right, of another model, forged, over, or for what is not deployed."""
    key, later = pin_key(doors["python"].settings), int(time.time()) + 600
    right = Pin("parted", 3, later).sealed(key)
    for pin, status in (
        (right, 200), (Pin("whole", 3, later).sealed(key), 403), (right[:-1] + "x", 403),
        (Pin("parted", 3, later - 1200).sealed(key), 403),
        (Pin("parted", 7, later).sealed(key), 404),
    ):  # fmt: skip
        for method, path in (("POST", f"{PARTED}/infer"), ("GET", PARTED)):
            raw = request(method, path, f"x-steelyard-pin: {pin}", "x-unit-id: ada")
            assert doors["python"].ask(raw).status == status, pin
            assert not differing(doors, raw)


def test_both_edges_count_a_key_alike(doors: dict[str, Door]) -> None:
    """Within one minute of the clock: the last of those it may send, and the first too many."""
    for attempt in itertools.count():
        began = time.time() // 60
        key = ApiKey(f"ada{attempt:07}", "ada", DIGEST, 1, requests_per_minute=2)
        found = {kind: list(_shown(door, key)) for kind, door in doors.items()}
        if time.time() // 60 == began:
            break
    assert found["haproxy"] == found["python"]
    assert [one.status for one in found["python"]] == [200, 200, 200, 429, 429]


def _shown(door: Door, key: ApiKey) -> Iterator[Found]:
    """Answers to a key, first with a wrong secret; how long to wait is another each second."""
    EdgeRouter(door.settings).limit({key.key_id: key})
    right, wrong = f"sy_{key.key_id}_{SECRET}", f"sy_{key.key_id}_{'x' * 43}"
    shows = [f"x-api-key: {wrong}", f"x-api-key: {right}", f"authorization: bearer  {right}"]
    for path, line in [(f"{WHOLE}/infer", one) for one in (*shows, shows[1])] + [
        ("/invocations", shows[1])
    ]:
        found = without_chance(door.ask(request("POST", path, line)))
        if found.status == 429:
            assert 1 <= int(found.headers.pop("retry-after")) <= 60
        yield found


def test_a_restarted_edge_goes_on_with_the_last_table(doors: dict[str, Door]) -> None:
    """Killed and started again, it serves routes and policies before anybody tells it."""
    door = doors["python"]
    door.edge.kill()
    door.edge.start()
    assert not differing(doors, request("POST", f"{PARTED}/infer", "x-user: ada"))
    assert not differing(doors, request("POST", f"{PARTED}/infer", "x-team: beta-2"))


@pytest.fixture
def before_ray(ray_cluster: Settings, applications: Any) -> Iterator[Settings]:
    """The edge in Python before the replicas that the shared Ray runs."""
    (port,) = free_ports(1)
    home = Path(tempfile.mkdtemp(prefix="syb-"))
    made = Settings(home=home, edge="python", edge_port=port)
    prepare(made)
    (made.run_dir / "doors").symlink_to(ray_cluster.run_dir / "doors")
    edge = Edge(made)
    edge.start()
    yield made
    edge.kill()
    shutil.rmtree(home)


@pytest.mark.alone
def test_a_canary_and_its_rollback_on_ray(before_ray: Settings) -> None:
    """Thirty in a hundred units are the canary's, the same again, and after it nobody is."""
    client, key = Client(before_ray), bucket_key(before_ray)
    router, deployed = EdgeRouter(before_ray), frozenset({(MODEL, 1), (MODEL, 2)})
    canary = Route(MODEL, 1, 2, (Share(2, 0, 3_000),), "r1")

    def answers() -> list[tuple[int, str]]:
        found = (client.infer([[1.0, 2.0, 3.0, 4.0]], f"unit {n}") for n in range(100))
        return [(status, headers["x-model-version"]) for status, headers, _ in found]

    router.apply({MODEL: Route(MODEL, 1, 1, lineage="r1")}, deployed)
    assert answers() == [(200, "1")] * 100
    router.apply({MODEL: canary}, deployed)
    drawn = [choose(canary, bucket(key, "r1", f"unit {n}"))[1] for n in range(100)]
    assert answers() == answers() == [(200, str(version)) for version in drawn]
    assert 15 <= drawn.count(2) <= 45
    router.apply({MODEL: Route(MODEL, 1, 3, lineage="r1")}, deployed)
    assert answers() == [(200, "1")] * 100
