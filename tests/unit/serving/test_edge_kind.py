"""Which edge a platform has, and what the one in Python does by itself."""

import asyncio
import json
import time
from typing import Any

import pytest
import uvicorn

from steelyard.domain.errors import InvalidInput
from steelyard.domain.traffic import Route, Share
from steelyard.settings import Settings
from steelyard_serving.edge.canary import GUARD, GUARD_MINUTES
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge_kind import edge_kind
from steelyard_serving.processes import processes
from steelyard_serving.python_edge import connection
from steelyard_serving.python_edge.addresses import address
from steelyard_serving.python_edge.admin import AdminServer
from steelyard_serving.python_edge.choice import Choice
from steelyard_serving.python_edge.guard import CanaryGuard
from steelyard_serving.python_edge.router import received
from steelyard_serving.python_edge.table import Table

ROUTE = Route("m", 1, 7, (Share(2, 0, 10_000),))


@pytest.fixture
def no_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system for which there is no HAProxy."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/nowhere/haproxy")


def module(settings: Settings) -> str:
    """What the supervisor would run as the edge."""
    (spec,) = [one for one in processes(settings) if one.name == "edge"]
    return spec.command[-1]


def test_the_edge_is_haproxy_where_it_can_be(settings: Settings) -> None:
    """Its wheel is here; who wants the other one says so."""
    assert edge_kind(settings) == "haproxy"
    assert module(settings) == "steelyard_serving.edge"
    other = settings.model_copy(update={"edge": "python"})
    assert module(other) == "steelyard_serving.python_edge"


@pytest.mark.usefixtures("no_binary")
def test_without_a_binary_the_edge_is_python(settings: Settings) -> None:
    """Nothing has to be set; what cannot be had is refused before anything is started."""
    assert module(settings) == "steelyard_serving.python_edge"
    with pytest.raises(InvalidInput, match="no HAProxy binary"):
        processes(settings.model_copy(update={"edge": "haproxy"}))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v2/models/m", ("m", "", None)), ("/v2/models/m/infer", ("m", "infer", None)),
        ("/v2/models/m/versions/3", ("m", "", "3")),
        ("/v2/models/m/versions/3/stats", ("m", "stats", "3")),
        ("/models/m/invocations", ("m", "invocations", None)),
        ("/invocations", ("digits", "invocations", None)),
        ("/v2/models/m/infer\n", None), ("/v2/models/m/", None), ("/models/m", None),
    ],
)  # fmt: skip
def test_a_path_names_a_model_and_a_question(path: str, found: tuple[object, ...] | None) -> None:
    """Only the paths of the protocols do, to the last character."""
    place = address(path, "digits")
    assert (place and (place.model, place.asked, place.version)) == found


def test_the_admin_socket_obeys_as_haproxys_does(settings: Settings) -> None:
    """Entries are added, changed, removed and shown; what it does not know, it says."""
    files = edge_files(settings)
    table = Table(files)
    admin = AdminServer(table, CanaryGuard())
    assert admin.obey(f"add map {files.routes} m 1|2|500|-|7") == ""
    assert table.route("m") == Route("m", 1, 7, (Share(2, 0, 500),))
    assert admin.obey(f"set map {files.routes} m 1||0|-|8") == ""
    assert admin.obey(f"show map {files.routes}") == "0x0 m 1||0|-|8"
    assert admin.obey(f"del map {files.routes} m") == ""
    assert admin.obey(f"del map {files.routes} m") == "entry not found."
    assert admin.obey("show map /elsewhere").startswith("Unknown map")
    assert admin.obey("shutdown sessions").startswith("Unknown command")
    assert admin.obey(f"show table {GUARD}") == ""


def test_the_guards_word_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes after the last failure the canary gets its share back."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept = CanaryGuard()
    canaries = [Choice("m", 2, "canary", f"unit {number}", route=ROUTE) for number in range(10)]
    for one in canaries:
        assert not kept.diverts(one)
        kept.count(one, failed=True)
    assert kept.diverts(canaries[0])
    assert kept.shown()["m/2/7"]["gpt0"] == 1
    now[0] = GUARD_MINUTES * 60
    assert not kept.diverts(canaries[0]) and not kept.shown()


def test_a_head_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends half a request and stops is told so, and keeps no connection."""
    monkeypatch.setattr(connection, "HEAD_S", 0.05)
    answer = asyncio.run(asyncio.wait_for(_half_a_request(), 20))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body) == {"error": "the request did not arrive in time"}


async def _half_a_request() -> bytes:
    config = uvicorn.Config(
        _nobody, http=connection.Connection, port=0, log_config=None, interface="asgi3",
        lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v2 HTTP/1.1\r\nhost")
    answer = await reader.read()
    writer.close()
    server.should_exit = True
    await running
    return answer


async def _nobody(scope: object, receive: object, send: object) -> None:
    raise AssertionError("a request without its head is nobody's to answer")


def test_half_a_body_is_nobodys_request() -> None:
    """Who goes away while he sends has not asked; a body that is too long is cut, to be refused."""
    whole = [_piece(b"abc", True), _piece(b"de", False)]
    assert asyncio.run(_received(whole, 10)) == b"abcde"
    assert asyncio.run(_received(whole, 4)) == b"abcd"
    with pytest.raises(ConnectionAbortedError):
        asyncio.run(_received([whole[0], {"type": "http.disconnect"}], 10))


def _piece(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def _received(messages: list[dict[str, Any]], most: int) -> bytes:
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    return await received(receive, most)
