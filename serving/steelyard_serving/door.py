"""A replica's own door: HTTP at the version's port, in a thread with an event loop of its own.

Requests come from the edge straight to here, past Ray Serve, whose wrapping costs more than half
of a small inference; Ray Serve places, watches and replaces replicas and carries no traffic.
"""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any, Protocol

import orjson
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from steelyard_serving.audit import ANSWER
from steelyard_serving.door_ports import BACKLOG
from steelyard_serving.ingress import Answer
from steelyard_serving.protocols.protocol import Headers

START_S, STOP_S, BEAT_S = 10.0, 5.0, 5.0
KEEP_ALIVE_S = 75
"""Longer than the edge keeps idle connections, so that it is the one that closes them."""

BUSY = Answer(
    503,
    orjson.dumps({"error": "the model is busy"}),
    {"content-type": "application/json", "retry-after": "1", "x-overloaded": "1", ANSWER: "1"},
)
ASTRAY = Answer(421, b"", {})
"""Without the mark of an answer: the edge takes it for nobody's."""


class GivenUp(Exception):
    """The client went away while he sent."""


class Answering(Protocol):
    """Who knows the answers: ``Ingress``."""

    async def answer(
        self, method: str, path: str, headers: Headers, body: AsyncIterator[bytes]
    ) -> Answer:
        """Answer one request; headers by their name in lower case."""


class Door:
    """Takes requests until it is closed. ``most`` is how many may be here at once."""

    def __init__(
        self, ingress: Answering, listening: socket.socket, prefix: str, most: int
    ) -> None:  # fmt: skip
        """``prefix`` is how the paths of this version begin; what asks another is turned away."""
        self.ongoing = 0
        """Requests that are here now, those that wait included."""
        self._ingress = ingress
        self._prefix = prefix
        self._most = most
        self._socket = listening
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = uvicorn.Server(self._config())
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def open(self) -> None:
        """Begin to listen; returns when connections are taken.

        Raises:
            RuntimeError: that did not come about.
        """
        # What was loaded stays; a collection need not look at it again.
        gc.collect()
        gc.freeze()
        self._thread.start()
        waiting = threading.Event()
        for _ in range(int(START_S / 0.01)):
            if self._server.started or not self._thread.is_alive():
                break
            waiting.wait(0.01)
        if not self._server.started:
            raise RuntimeError("the replica's door did not open")

    async def beat(self) -> None:
        """Return when the door's loop has had its turn.

        Raises:
            RuntimeError: it has not in time, or has ended.
        """
        if self._loop is None or not self._thread.is_alive():
            raise RuntimeError("the replica's door is closed")
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
        try:
            await asyncio.wait_for(asyncio.wrap_future(turn), BEAT_S)
        except TimeoutError as error:
            raise RuntimeError(f"the replica's door had no turn in {BEAT_S:g} s") from error

    def stop(self) -> None:
        """Take no more connections and let those that are here be answered."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S + 1)

    def _config(self) -> uvicorn.Config:
        running = self._running

        class Connection(HttpToolsProtocol):
            """Answers in one piece, and ends the work on a request whose connection broke."""

            def connection_made(self, transport: Any) -> None:
                self._whole = _Whole(transport)
                super().connection_made(self._whole)  # type: ignore[arg-type]

            def connection_lost(self, exc: Exception | None) -> None:
                task = running.get(self.client)
                if task is not None:
                    task.cancel()
                super().connection_lost(exc)

            def on_response_complete(self) -> None:
                self._whole.flush()
                super().on_response_complete()

        return uvicorn.Config(
            self._app, http=Connection, loop="none", ws="none", lifespan="off", interface="asgi3",
            access_log=False, log_config=None, proxy_headers=False, server_header=False,
            date_header=False, timeout_keep_alive=KEEP_ALIVE_S, backlog=BACKLOG,
            timeout_graceful_shutdown=int(STOP_S),
        )  # fmt: skip

    def _run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"].startswith(self._prefix):
            await _say(send, ASTRAY)
            return
        if self.ongoing >= self._most:
            await _say(send, BUSY)
            return
        # A dictionary, latin-1: what the edge sent, byte for byte.
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        client = scope["client"]
        task = asyncio.current_task()
        assert task is not None
        self._running[client] = task
        self.ongoing += 1
        try:
            answer = await self._ingress.answer(
                scope["method"], scope["path"], headers, _body(receive)
            )
            await _say(send, answer)
        except (asyncio.CancelledError, GivenUp):
            pass  # nobody is there to be answered
        finally:
            self.ongoing -= 1
            self._running.pop(client, None)


class _Whole:
    """A transport that keeps an answer's head until its body comes.

    Written apart they are two system calls, a tenth of the time of a small answer.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Keep a head; send a body behind what was kept."""
        if not self._head and data.startswith(b"HTTP/1.1 "):
            self._head = data
            return
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def flush(self) -> None:
        """Send what was kept: an answer without a body."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close when everything is sent."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def _body(receive: Any) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GivenUp
        more = message["more_body"]
        yield message["body"]


async def _say(send: Any, answer: Answer) -> None:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()
    ]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
