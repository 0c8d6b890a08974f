"""The edge before an upstream that answers everything: limits of keys, and TLS."""

import itertools
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from tests.free_ports import free_ports

from steelyard.adapters.supervisor import answers
from steelyard.bootstrap.access import edge_trust
from steelyard.domain.api_key import ApiKey
from steelyard.domain.errors import InvalidInput
from steelyard.domain.traffic import Route
from steelyard.settings import Settings
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.maps import read_map
from steelyard_serving.environment import prepare
from steelyard_serving.processes import processes
from steelyard_serving.traffic_router import EdgeRouter

from .certificate import self_signed
from .conftest import AtDoor, Client, Edge

pytestmark = pytest.mark.integration
BODY = b'{"a":1}'
INFER = "/v2/models/m/infer"
SECRET = "s" * 43
Found = TypeVar("Found")


class Answering(BaseHTTPRequestHandler):
    """A replica in place of Ray Serve's: says that it answered, and counts."""

    asked = 0
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer 200 with the mark of a replica."""
        Answering.asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("x-steelyard-answer", "1")
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def key(name: str, a_minute: int) -> ApiKey:
    """A key with a limit; all have the same secret."""
    digest = sha256(SECRET.encode()).hexdigest()
    return ApiKey(name.ljust(10, "0"), name, digest, 1, requests_per_minute=a_minute)


def shown(one: ApiKey, secret: str = SECRET) -> str:
    """A key as clients send it."""
    return f"sy_{one.key_id}_{secret}"


def bearer(one: ApiKey, secret: str = SECRET) -> dict[str, str | bytes]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {shown(one, secret)}"}


@pytest.fixture(scope="module")
def replica() -> Iterator[int]:
    """The port of an upstream that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a path short enough for sockets."""
    home = Path(tempfile.mkdtemp(prefix="syl-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture
def settings(home: Path, replica: int, at_door: AtDoor) -> Settings:
    """An edge of our own in front of the upstream."""
    (port,) = free_ports(1)
    settings = Settings(home=home, edge_port=port)
    prepare(settings)
    at_door(settings, "m", [1], replica)
    return settings


@pytest.fixture
def router(settings: Settings) -> Iterator[EdgeRouter]:
    """The running edge's maps, with a model routed."""
    process = Edge(settings)
    process.start()
    router = EdgeRouter(settings)
    router.apply({"m": Route("m", 1, 1, lineage="r1")}, frozenset({("m", 1)}))
    yield router
    process.kill()


def in_one_minute(ask: Callable[[int], Found]) -> Found:
    """What was found within one minute of the clock: with the next one all counts begin anew.

    ``ask`` gets another number at each attempt, to ask with keys that nobody has used.
    """
    for attempt in itertools.count():
        began = time.time() // 60
        found = ask(attempt)
        if time.time() // 60 == began:
            break
    return found


def test_a_key_is_held_to_its_requests_a_minute(settings: Settings, router: EdgeRouter) -> None:
    """The next one is refused before a replica sees it, and told when to come again."""
    client = Client(settings)

    def ask(attempt: int) -> tuple[list[int], int, dict[str, str], Any]:
        ada = key(f"ada{attempt}", 5)
        router.limit({ada.key_id: ada})
        before = Answering.asked
        found = [client.call("POST", INFER, BODY, bearer(ada)) for _ in range(8)]
        return [status for status, _, _ in found], Answering.asked - before, *found[-1][1:]

    statuses, asked, headers, document = in_one_minute(ask)
    assert statuses == [200] * 5 + [429] * 3
    assert asked == 5
    assert document == {"error": "this key may send 5 requests a minute"}
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-prediction-id"]
    assert client.call("POST", INFER, BODY)[0] == 200


def test_each_header_and_protocol_is_counted_and_told_its_way(
    settings: Settings, router: EdgeRouter
) -> None:
    """X-Api-Key is as good as a bearer's token; MLflow's clients get MLflow's kind of body."""
    client = Client(settings)

    def ask(attempt: int) -> list[tuple[int, Any]]:
        bob = key(f"bob{attempt}", 2)
        router.limit({bob.key_id: bob})
        asked = [
            client.call("POST", INFER, BODY, {"x-api-key": shown(bob)}),
            client.call("POST", INFER, BODY, bearer(bob)),
            client.call("POST", "/models/m/invocations", BODY, {"x-api-key": shown(bob)}),
        ]
        return [(status, document) for status, _, document in asked]

    *answered, (status, document) = in_one_minute(ask)
    assert [one[0] for one in answered] == [200, 200]
    assert (status, document["error_code"]) == (429, "REQUEST_LIMIT_EXCEEDED")
    assert "2 requests a minute" in document["message"]


def test_nobody_uses_up_another_s_minute(settings: Settings, router: EdgeRouter) -> None:
    """The id of a key is no secret: what comes with another secret is not counted as its."""
    client = Client(settings)

    def ask(attempt: int) -> list[int]:
        eve = key(f"eve{attempt}", 2)
        router.limit({eve.key_id: eve})
        wrong, right = bearer(eve, "x" * 43), bearer(eve)
        return [client.call("POST", INFER, BODY, header)[0] for header in [wrong] * 4 + [right] * 3]

    assert in_one_minute(ask) == [200] * 4 + [200, 200, 429]


def test_limits_change_while_the_edge_runs(settings: Settings, router: EdgeRouter) -> None:
    """A higher limit lets in at once, a key without one is not counted; the file says the same."""
    client, file = Client(settings), edge_files(settings).limits

    def ask(attempt: int) -> list[int]:
        kim, statuses = key(f"kim{attempt}", 1), []
        for limit, requests in ((1, 2), (4, 3), (0, 1)):
            router.limit({kim.key_id: replace(kim, requests_per_minute=limit)})
            assert list(read_map(file)) == ([kim.key_id] if limit else [])
            for _ in range(requests):
                statuses.append(client.call("POST", INFER, BODY, bearer(kim))[0])
        return statuses

    # A refused request is counted as well: it is the fourth, not the third, that is let in last.
    assert in_one_minute(ask) == [200, 429, 200, 200, 429, 200]


@pytest.mark.parametrize("kind", ["haproxy", "python"])
def test_with_a_certificate_the_edge_speaks_tls_alone(
    settings: Settings, home: Path, kind: str, wait: Callable[[Callable[[], bool], float], None]
) -> None:
    """Who trusts the certificate is answered, nobody else; the address says https."""
    pem, other = home / "edge.pem", home / "other.pem"
    self_signed(pem)
    self_signed(other)
    settings = settings.model_copy(update={"tls_certificate": str(pem), "edge": kind})
    spec = next(one for one in processes(settings) if one.name == "edge")
    assert spec.probe is not None and spec.probe.url is not None
    assert spec.probe.url.startswith(f"https://127.0.0.1:{settings.edge_port}/")
    process = subprocess.Popen(spec.command, env={**os.environ, **spec.environment},
                               start_new_session=True)  # fmt: skip
    try:
        wait(lambda: answers(spec.probe), 20)
        url = f"{settings.edge_url}/v2/health/live"
        for trust in (edge_trust(settings), ssl.create_default_context(cafile=str(pem))):
            assert isinstance(trust, ssl.SSLContext)
            with httpx2.Client(verify=trust) as client:
                assert client.get(url).json() == {"live": True}
        stranger = settings.model_copy(update={"tls_certificate": str(other)})
        with httpx2.Client(verify=edge_trust(stranger)) as client, pytest.raises(
            httpx2.ConnectError, match="certificate verify failed"
        ):  # fmt: skip
            client.get(url)
        with httpx2.Client() as client, pytest.raises(httpx2.TransportError):
            client.get(url.replace("https://", "http://"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_unusable_certificate_is_refused_before_anything_starts(
    settings: Settings, home: Path
) -> None:
    """Absent, without its key, or with a path that would end a word of the configuration."""
    whole, bare = home / "whole.pem", home / "bare.pem"
    self_signed(whole)
    bare.write_bytes(whole.read_bytes().partition(b"-----BEGIN PRIVATE KEY")[0])
    quoted = home / "a'b.pem"
    whole.rename(quoted)
    for path, why in ((home / "absent.pem", "there is no file"), (bare, "unencrypted key"),
                      (quoted, "character")):  # fmt: skip
        chosen = settings.model_copy(update={"tls_certificate": str(path)})
        with pytest.raises(InvalidInput, match=f"tls_certificate: .*{why}"):
            processes(chosen)
