"""A replica's own door: HTTP at the version's port, in a thread with an event loop of its own.

Requests come from the edge straight to here, past Ray Serve, whose wrapping costs more than half
of a small inference; Ray Serve places, watches and replaces replicas and carries no traffic.
"""

import asyncio
import gc
import logging
import socket
import threading
import time

import orjson
import uvloop

from steelyard_serving.audit import ANSWER
from steelyard_serving.door_ports import BACKLOG
from steelyard_serving.http_connection import Answer, Answering, Connection

START_S, STOP_S, BEAT_S, SWEEP_S, RETRY_S = 10.0, 5.0, 5.0, 15.0, 1.0
KEEP_ALIVE_S = 75.0
"""Longer than the edge keeps idle connections, so that it is the one that closes them."""

BUSY = Answer(
    503,
    orjson.dumps({"error": "the model is busy"}),
    {"content-type": "application/json", "retry-after": "1", "x-overloaded": "1", ANSWER: "1"},
)
ASTRAY = Answer(421, b"", {})
"""Without the mark of an answer: the edge takes it for nobody's."""

log = logging.getLogger(__name__)


class Door:
    """Takes requests until it is closed. ``most`` is how many may be here at once."""

    def __init__(
        self, ingress: Answering, listening: socket.socket, prefix: str, most: int, limit: int
    ) -> None:
        """``prefix`` is how the paths of this version begin; what asks another is turned away.

        ``limit`` is of a body, in bytes: a larger one arrives as None.
        """
        self.ongoing = 0
        """Requests that are here now, those that wait included."""
        self.connections: set[Connection] = set()
        self.answer = ingress.answer
        self._prefix = prefix
        self._most = most
        self._limit = limit
        self._socket = listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event
        self._beginning: set[asyncio.Task[None]] = set()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def admit(self, path: str) -> Answer | None:
        """Count a request in, or say why it may not come in; ``gone`` counts it out."""
        if not path.startswith(self._prefix):
            return ASTRAY
        if self.ongoing >= self._most:
            return BUSY
        self.ongoing += 1
        return None

    def gone(self) -> None:
        """A request was answered, or given up."""
        self.ongoing -= 1

    def open(self) -> None:
        """Begin to listen; returns when connections are taken.

        Raises:
            RuntimeError: that did not come about.
        """
        # What was loaded stays; a collection need not look at it again.
        gc.collect()
        gc.freeze()
        self._thread.start()
        if not self._opened.wait(START_S):
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
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(STOP_S + 1)

    def _run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._socket.listen(BACKLOG)
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._accept)
        self._opened.set()
        while not await self._closes_within(SWEEP_S):
            self._sweep()
        loop.remove_reader(self._socket)
        self._socket.close()
        for one in list(self.connections):
            one.finish()
        end = time.monotonic() + STOP_S
        while self.connections and time.monotonic() < end:
            await asyncio.sleep(0.01)

    def _accept(self) -> None:
        """Take all who knock: one in a round of the loop is too few where a round is full of work.

        libuv's own servers take one; under overload the others would wait in the kernel's queue,
        where nobody tells them to come again.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                taken, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no more files may be open; those that are will be closed
                log.exception("a connection was not taken")
                loop.remove_reader(self._socket)
                loop.call_later(RETRY_S, self._accept_again)
                return
            taken.setblocking(False)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(self._begin(taken))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    def _accept_again(self) -> None:
        if not self._closing.is_set():
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def _begin(self, taken: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Connection(self, self._limit), taken)

    async def _closes_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _sweep(self) -> None:
        """Close connections on which the other side has been silent for long when it is its turn.

        A request of which the rest never comes would hold its place for ever.
        """
        idle_since = time.monotonic() - KEEP_ALIVE_S
        for one in list(self.connections):
            if one.waits and one.active_s < idle_since:
                one.close()
