"""A replica's door: HTTP at a port of its own."""

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from steelyard_serving.door import KEEP_ALIVE_S, Door
from steelyard_serving.http_connection import MAX_HEAD_BYTES, Answer, Request

LIMIT = 1_000_000


class Echo:
    """Answers with what it was asked; ``/wait`` first waits until it is let go, or cut off.

    ``/break`` is not answered at all, ``/name`` with a header that has no byte for each letter.
    """

    def __init__(self) -> None:
        self.here = threading.Semaphore(0)
        self.go = threading.Event()
        self.cut_off = threading.Event()

    async def answer(self, request: Request) -> Answer:
        """One answer."""
        method, path, headers, body, _ = request
        said = b"(too large)" if body is None else body
        if path.endswith("/break"):
            raise ValueError("broken")
        if path.endswith("/name"):
            return Answer(200, b"", {"x-told": "Łódź"})
        if path.endswith("/wait"):
            self.here.release()
            try:
                while not self.go.is_set():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cut_off.set()
                raise
        return Answer(
            200, f"{method} {path} ".encode() + said, {"x-told": headers.get("x-ask", "")}
        )


@pytest.fixture
def echo() -> Echo:
    """Who answers."""
    return Echo()


@contextmanager
def opened(echo: Echo, most: int = 4) -> Iterator[tuple[Door, int]]:
    """An open door of version 1 of "m", and its port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    door = Door(echo, listening, "/v/m/1/", most, LIMIT)
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


def spoken(port: int, *parts: bytes) -> bytes:
    """All that is answered to bytes, sent one after the other, before the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        for part in parts:
            line.sendall(part)
        return line.makefile("rb").read()


CLOSE = b"Connection: close\r\n"


def test_a_body_in_chunks_arrives_as_one(echo: Echo) -> None:
    """Also when head and chunks are torn apart anywhere."""
    whole = (b"POST /v/m/1/a?b=c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
             b"Connection: close\r\n\r\n3\r\nro-\r\n2\r\nws\r\n0\r\n\r\n")  # fmt: skip
    with opened(echo) as (_, port):
        for cut in range(1, len(whole), 7):
            told = spoken(port, whole[:cut], whole[cut:])
            assert told.startswith(b"HTTP/1.1 200 OK\r\n")
            assert told.endswith(b"\r\n\r\nPOST /v/m/1/a ro-ws")


def test_headers_after_a_body_say_nothing(echo: Echo) -> None:
    """The edge's rules do not see them, so nobody may slip in there what the edge takes out."""
    trailer = b"x-ask: slipped in\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n" + CLOSE + b"\r\n4\r\nrows\r\n0\r\n"
    with opened(echo) as (_, port):
        for shown in (b"", b"x-ask: shown\r\n"):
            head = b"POST /v/m/1/a HTTP/1.1\r\nHost: x\r\n" + shown + chunked
            told = spoken(port, head + trailer + b"\r\n")
            assert told.endswith(b"POST /v/m/1/a rows") and b"slipped" not in told
            assert shown.replace(b"x-ask", b"x-told") in told


def test_a_body_that_is_too_large_is_not_kept(echo: Echo) -> None:
    """Whether it says its length or not; the connection goes on after it."""
    with opened(echo) as (_, port), closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
        assert ask(line, "/v/m/1/a", body=b"x" * LIMIT)[1].endswith(b"x" * LIMIT)
        assert ask(line, "/v/m/1/a", body=b"x" * (LIMIT + 1))[1] == b"POST /v/m/1/a (too large)"
        line.request("POST", "/v/m/1/b", iter([b"x" * LIMIT, b"y"]), {}, encode_chunked=True)
        assert line.getresponse().read() == b"POST /v/m/1/b (too large)"
        assert ask(line, "/v/m/1/c")[1] == b"POST /v/m/1/c rows"


def test_requests_that_do_not_wait_for_answers_are_answered_in_their_order(echo: Echo) -> None:
    """However many come at once; the ones turned away keep their place."""
    one = b"GET /v/m/1/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    astray = b"GET /v/m/10/ HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v/m/1/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with opened(echo, most=100) as (door, port):
        told = spoken(port, *(one % n for n in range(50)), astray, last)
        found = [part.partition(b"\r\n\r\n")[2] for part in told.split(b"HTTP/1.1 ")[1:]]
        assert found == [*(b"GET /v/m/1/%d " % n for n in range(50)), b"", b"GET /v/m/1/last "]
        assert told.count(b"HTTP/1.1 421 ") == 1
    assert door.ongoing == 0


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_old_client_is_told_that_the_connection_ends(echo: Echo, version: bytes) -> None:
    """HTTP/1.0 ends it by itself."""
    more = b"" if version == b"1.0" else CLOSE
    with opened(echo) as (_, port):
        told = spoken(port, b"GET /v/m/1/a HTTP/" + version + b"\r\nHost: x\r\n" + more + b"\r\n")
    assert told.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nconnection: close\r\n" in told


def test_who_waits_for_leave_to_send_gets_it(echo: Echo) -> None:
    """As curl does before a body of more than a megabyte."""
    head = (b"POST /v/m/1/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"
            + CLOSE + b"\r\n")  # fmt: skip
    with opened(echo) as (_, port), socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head)
        assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"rows")
        assert line.makefile("rb").read().endswith(b"POST /v/m/1/a rows")


def test_an_offer_of_another_protocol_is_refused(echo: Echo) -> None:
    """The edge takes it out of a request; the parser would take the body for that protocol's."""
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nrows"
    with opened(echo) as (_, port):
        told = spoken(port, b"POST /v/m/1/a HTTP/1.1\r\nHost: x\r\n" + offer)
    assert told.startswith(b"HTTP/1.1 400 ") and told.count(b"HTTP/1.1") == 1


def test_a_path_is_understood_in_every_form(echo: Echo) -> None:
    """With the host before it, as proxies are asked, and with letters written as numbers."""
    with opened(echo) as (_, port):
        for path in (b"http://x/v/m/1/a?b", b"/v/m/1/%61"):
            told = spoken(port, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n")
            assert told.endswith(b"GET /v/m/1/a ")


def test_a_head_without_end_is_cut_off(echo: Echo) -> None:
    """It does not fill the memory."""
    with opened(echo) as (_, port):
        told = spoken(port, b"GET /v/m/1/a HTTP/1.1\r\n" + b"x-a: %s\r\n" % (b"b" * 9_000) * 9)
    assert told.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("begun", [b"x-a: ", b"Transfer-Encoding: chunked\r\n\r\n1;a="])
def test_a_piece_without_end_is_cut_off(echo: Echo, begun: bytes) -> None:
    """One header, or what is said of a chunk: the parser would gather it for ever."""
    head = b"POST /v/m/1/b HTTP/1.1\r\nHost: x\r\n" + begun
    with opened(echo) as (door, port), socket.create_connection(("127.0.0.1", port), 10) as line:
        answers = line.makefile("rb")
        line.sendall(b"GET /v/m/1/a HTTP/1.1\r\nHost: x\r\n\r\n" + head)
        first = b"".join(iter(answers.readline, b"\r\n"))
        assert first.startswith(b"HTTP/1.1 200 ") and answers.read(13) == b"GET /v/m/1/a "
        line.sendall(b"b" * (MAX_HEAD_BYTES + 1))
        assert answers.read().startswith(b"HTTP/1.1 400 ")
    assert door.ongoing == 0


def test_what_follows_a_request_does_not_take_its_answer(echo: Echo) -> None:
    """Who sends something that is not HTTP after it is told so after its answer."""
    with opened(echo) as (door, port):
        told = spoken(port, b"GET /v/m/1/a HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01 hello")
        found = [part[:3] for part in told.split(b"HTTP/1.1 ")[1:]]
    assert found == [b"200", b"400"] and b"GET /v/m/1/a " in told
    assert door.ongoing == 0


def test_a_header_that_cannot_be_sent_does_not_hold_the_answer_back(echo: Echo) -> None:
    """A letter that HTTP has no byte for becomes a question mark."""
    with opened(echo) as (_, port):
        told = spoken(port, b"GET /v/m/1/name HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n")
    assert b"\r\nx-told: ?\xf3d?\r\n" in told


def test_a_request_that_cannot_be_answered_is_an_error_of_ours(echo: Echo) -> None:
    """Without the mark of an answer, so that the edge asks another; the connection goes on."""
    with opened(echo) as (_, port), closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
        status, _, headers = ask(line, "/v/m/1/break")
        assert status == 500 and "x-steelyard-answer" not in headers
        assert ask(line, "/v/m/1/a")[0] == 200


def test_a_connection_that_asks_nothing_is_closed(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who only connects does not stay; who waits for his answer does."""
    monkeypatch.setattr("steelyard_serving.door.SWEEP_S", 0.01)
    with opened(echo) as (door, port):
        idle = socket.create_connection(("127.0.0.1", port), timeout=10)
        line = http.client.HTTPConnection("127.0.0.1", port)
        line.request("POST", "/v/m/1/wait", b"")
        assert echo.here.acquire(timeout=10)
        for one in list(door.connections):
            one.active_s -= KEEP_ALIVE_S + 1
        with closing(idle):
            assert idle.recv(1) == b""
        echo.go.set()
        with closing(line):
            assert line.getresponse().status == 200


def test_a_request_of_which_the_rest_never_comes_loses_its_place(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another is let in for it."""
    monkeypatch.setattr("steelyard_serving.door.SWEEP_S", 0.01)
    with opened(echo, most=1) as (door, port):
        half = b"POST /v/m/1/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stuck:
            stuck.sendall(half + b"Content-Length: 4\r\n\r\n")
            assert stuck.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert door.ongoing == 1
            for one in list(door.connections):
                one.active_s -= KEEP_ALIVE_S + 1
            assert stuck.recv(1) == b""
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
            assert ask(line, "/v/m/1/a")[0] == 200


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
