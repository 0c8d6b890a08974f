"""A replica's door: HTTP at a port of its own."""

import asyncio
import http.client
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager

import pytest

from steelyard_serving.door import Door
from steelyard_serving.ingress import Answer
from steelyard_serving.protocols.protocol import Headers


class Echo:
    """Answers with what it was asked; ``/wait`` first waits until it is let go, or cut off."""

    def __init__(self) -> None:
        self.here = threading.Semaphore(0)
        self.go = threading.Event()
        self.cut_off = threading.Event()

    async def answer(
        self, method: str, path: str, headers: Headers, body: AsyncIterator[bytes]
    ) -> Answer:
        """One answer."""
        said = b"".join([part async for part in body])
        if path.endswith("/wait"):
            self.here.release()
            try:
                while not self.go.is_set():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cut_off.set()
                raise
        return Answer(200, f"{method} {path} ".encode() + said, {"x-told": headers["x-ask"]})


@pytest.fixture
def echo() -> Echo:
    """Who answers."""
    return Echo()


@contextmanager
def opened(echo: Echo, most: int = 4) -> Iterator[tuple[Door, int]]:
    """An open door of version 1 of "m", and its port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    door = Door(echo, listening, "/v/m/1/", most)
    door.open()
    try:
        yield door, listening.getsockname()[1]
    finally:
        echo.go.set()
        door.stop()


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "POST", body: bytes = b"rows"
) -> tuple[int, bytes, dict[str, str]]:
    """One request on a connection that is kept."""
    connection.request(method, path, body, {"x-ask": "ä".encode("latin-1")})
    response = connection.getresponse()
    return response.status, response.read(), {k.lower(): v for k, v in response.getheaders()}


def test_requests_of_one_connection_are_answered_one_after_the_other(echo: Echo) -> None:
    """Bodies and headers arrive byte for byte, and so do answers."""
    with opened(echo) as (_, port), closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
        for number in range(3):
            status, body, headers = ask(line, f"/v/m/1/{number}", body=bytes([number]) * 300_000)
            assert (status, headers["x-told"]) == (200, "ä")
            assert body == f"POST /v/m/1/{number} ".encode() + bytes([number]) * 300_000


def test_a_head_is_answered_without_a_body(echo: Echo) -> None:
    """And the connection goes on."""
    with opened(echo) as (_, port), closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
        assert ask(line, "/v/m/1/ready", "HEAD", b"")[:2] == (200, b"")
        assert ask(line, "/v/m/1/ready", "GET", b"")[:2] == (200, b"GET /v/m/1/ready ")


def test_what_is_not_http_is_told_so(echo: Echo) -> None:
    """A stranger on the machine gets a 400 and the end of the connection."""
    with opened(echo) as (_, port), socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert line.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_another_versions_request_is_not_answered_as_this_one(echo: Echo) -> None:
    """The edge takes an answer without the mark for nobody's."""
    with opened(echo) as (_, port), closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
        status, body, headers = ask(line, "/v/m/10/infer")
    assert (status, body) == (421, b"")
    assert "x-steelyard-answer" not in headers


def test_one_too_many_is_told_to_come_again(echo: Echo) -> None:
    """503 with Retry-After and the mark; those that wait are answered."""
    with opened(echo, most=1) as (door, port):
        first = http.client.HTTPConnection("127.0.0.1", port)
        first.request("POST", "/v/m/1/wait", b"", {"x-ask": "a"})
        assert echo.here.acquire(timeout=10)
        assert door.ongoing == 1
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as second:
            status, _, headers = ask(second, "/v/m/1/infer")
            assert (status, headers["retry-after"], headers["x-steelyard-answer"]) == (
                503,
                "1",
                "1",
            )
        echo.go.set()
        with closing(first):
            assert first.getresponse().status == 200
    assert door.ongoing == 0


def test_work_ends_when_the_connection_breaks(echo: Echo) -> None:
    """Nobody waits for the answer."""
    with opened(echo) as (_, port):
        line = http.client.HTTPConnection("127.0.0.1", port)
        line.request("POST", "/v/m/1/wait", b"", {"x-ask": "a"})
        assert echo.here.acquire(timeout=10)
        line.close()
        assert echo.cut_off.wait(10)


def test_a_door_that_closes_answers_those_who_are_in(echo: Echo) -> None:
    """It takes nobody more, and its thread ends."""
    with opened(echo) as (door, port):
        line = http.client.HTTPConnection("127.0.0.1", port)
        line.request("POST", "/v/m/1/wait", b"", {"x-ask": "a"})
        assert echo.here.acquire(timeout=10)
        closing_door = threading.Thread(target=door.stop)
        closing_door.start()
        echo.go.set()
        assert line.getresponse().read() == b"POST /v/m/1/wait "
        line.close()
        closing_door.join(10)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        with pytest.raises(RuntimeError, match="closed"):
            asyncio.run(door.beat())


def test_a_door_whose_loop_turns_is_well(echo: Echo) -> None:
    """So says its heart-beat, from another loop."""
    with opened(echo) as (door, _):
        asyncio.run(door.beat())
