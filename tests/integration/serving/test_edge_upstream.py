"""The edge against an upstream that breaks off at a chosen moment."""

import itertools
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.free_ports import free_ports

from steelyard.domain.traffic import Route
from steelyard.settings import Settings
from steelyard_serving.door_ports import door_port
from steelyard_serving.environment import prepare
from steelyard_serving.traffic_router import EdgeRouter

from .conftest import AtDoor, Client, Edge

pytestmark = pytest.mark.integration
BODY = b'{"a":1}'
ANSWER = b"HTTP/1.1 200 OK\r\nx-steelyard-answer: 1\r\ncontent-length: 7\r\n\r\n"
Script = Callable[[socket.socket], None]


class Upstream:
    """Ray Serve's place, held by scripts: the n-th connection runs the n-th, the last for ever."""

    def __init__(self, port: int) -> None:
        self.bodies: list[bytes] = []
        self.scripts: list[Script] = []
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", port))
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def _run(self) -> None:
        for number in itertools.count():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.add(connection)
            script = self.scripts[min(number, len(self.scripts) - 1)]
            self._threads.append(threading.Thread(target=self._serve, args=(connection, script)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        data = b""
        with closing(connection), suppress(OSError):
            while BODY not in data and (piece := connection.recv(65536)):
                data += piece
            if data:
                self.bodies.append(data[data.index(b"\r\n\r\n") + 4 :])
                script(connection)
        self._open.discard(connection)

    def close(self) -> None:
        """Stop accepting, and end what is open."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._threads[0].join()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def _answer(connection: socket.socket) -> None:
    connection.sendall(ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + BODY)


def _reset(connection: socket.socket) -> None:
    """What the kernel of a killed process sends."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _break_off(connection: socket.socket) -> None:
    connection.sendall(ANSWER)


def _not_there_then_reset(connection: socket.socket) -> None:
    """Somebody without our mark, who dies when asked again over this connection."""
    connection.sendall(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
    connection.recv(65536)
    _reset(connection)


@pytest.fixture(scope="module")
def edge_settings(at_door: AtDoor) -> Iterator[Settings]:
    """An edge of our own in front of nothing yet."""
    home = Path(tempfile.mkdtemp(prefix="sye-"))
    edge_port, replica = free_ports(2)
    settings = Settings(home=home, edge_port=edge_port)
    prepare(settings)
    at_door(settings, "m", [1], replica)
    process = Edge(settings)
    process.start()
    EdgeRouter(settings).apply({"m": Route("m", 1, 1, lineage="r1")}, frozenset({("m", 1)}))
    yield settings
    process.kill()
    shutil.rmtree(home)


@pytest.fixture
def upstream(edge_settings: Settings) -> Iterator[Upstream]:
    """An upstream whose scripts the test writes."""
    port = door_port(edge_settings, "m", 1)
    assert port is not None
    upstream = Upstream(port)
    yield upstream
    upstream.close()


def _in_two_pieces(settings: Settings) -> bytes:
    """Head and body of one request, far enough apart to arrive alone; everything answered."""
    head = (
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n"
        b"connection: close\r\ncontent-length: 7\r\n\r\n"
    )
    with socket.create_connection((settings.host, settings.edge_port), timeout=30) as door:
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        door.sendall(head)
        with pytest.raises(TimeoutError):  # the edge waits for the rest
            door.settimeout(0.2)
            door.recv(1)
        door.settimeout(30)
        door.sendall(BODY)
        return b"".join(iter(lambda: door.recv(65536), b""))


def test_a_request_that_arrives_in_pieces_survives_a_killed_replica(
    edge_settings: Settings, upstream: Upstream
) -> None:
    """It is repeated whole, though its head came before its body."""
    upstream.scripts = [_reset, _reset, _answer]
    found = _in_two_pieces(edge_settings)
    assert found.startswith(b"HTTP/1.1 200 ") and found.endswith(BODY)
    assert upstream.bodies == [BODY] * 3


def test_an_answer_that_breaks_off_is_an_error_that_says_so(
    edge_settings: Settings, upstream: Upstream
) -> None:
    """The client gets a whole 502 instead of half an answer."""
    upstream.scripts = [_break_off]
    found: tuple[int, Any, Any] = Client(edge_settings).call("POST", "/v2/models/m/infer", BODY)
    assert found[::2] == (502, {"error": "the model server broke off"})


@pytest.mark.parametrize("script", [_reset, _not_there_then_reset, lambda _: None])
def test_an_upstream_that_never_answers_is_an_error_that_says_so(
    edge_settings: Settings, upstream: Upstream, script: Script
) -> None:
    """When the attempts are used up the client gets a whole refusal, not a closed connection."""
    upstream.scripts = [script]
    status, _, body = Client(edge_settings).call("POST", "/v2/models/m/infer", BODY)
    assert status in (502, 503) and body["error"]
