"""The server's side of one HTTP/1.1 connection: whole requests in, whole answers out, in turn.

httptools (llhttp) parses. A general server spends more time on a small request than the inference
does, for what a replica does not need: an interface for frameworks, answers in parts, WebSockets.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import unquote

import httptools

PHRASES = {one.value: one.phrase for one in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
"""Of a request's target and headers together, and of any one piece of it that is no body."""

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What is asked.

    Headers are by their name in lower case, as latin-1: byte for byte what was sent. Those after
    a body in chunks (trailers) are left out, because the edge's rules do not see them. ``body`` is
    None when it is larger than it may be. ``arrived_ns`` is when its first byte came, by
    ``time.perf_counter_ns``.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    arrived_ns: int


class Answer(NamedTuple):
    """Status, body and headers."""

    status: int
    body: bytes
    headers: Mapping[str, str]


MALFORMED = Answer(400, b"what was sent is not HTTP", {})
FAILED = Answer(500, b"", {})


class Answering(Protocol):
    """Who knows the answers."""

    async def answer(self, request: Request) -> Answer:
        """Answer one request; it is cancelled when nobody waits for it any more."""


class Host(Answering, Protocol):
    """Whose connections they are."""

    connections: "set[Connection]"

    def admit(self, path: str) -> Answer | None:
        """Let in a request, of which the head is here, or say why not."""

    def gone(self) -> None:
        """One that was let in was answered, or given up."""


class Connection(asyncio.Protocol):
    """One connection. Its requests are answered one after the other."""

    def __init__(self, host: Host, limit: int) -> None:
        """``limit`` is of a body, in bytes."""
        self.active_s = time.monotonic()
        """When something was last received."""
        self._host = host
        self._limit = limit
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, Answer | None, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._inside = 0
        self._untold = 0
        """Bytes since the parser told of something; it keeps a header until it has all of it."""
        self._full = self._paused = self._closing = False
        self._begin()

    @property
    def busy(self) -> bool:
        """Whether a request that was let in is being received or answered, or one is in line."""
        return bool(self._inside or self._waiting)

    @property
    def waits(self) -> bool:
        """Whether it is the other side's turn: to ask, to send the rest or to take answers."""
        return self._task is None

    def finish(self) -> None:
        """Close when those who wait are answered."""
        self._closing = True
        if not self.busy:
            self.close()

    def close(self) -> None:
        """Close it; whoever is still in it is given up."""
        self._transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It begins."""
        self._transport = transport
        self._host.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answers any more."""
        self._host.connections.discard(self)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        while self._inside:
            self._leave()

    def data_received(self, data: bytes) -> None:
        """Bytes of one request, or of several."""
        self.active_s = time.monotonic()
        self._untold += len(data)
        try:
            self._parser.feed_data(data)
            if self._untold > MAX_HEAD_BYTES:
                raise httptools.HttpParserError("a header or the like does not end")
        except httptools.HttpParserError:
            # In its turn: who asked before gets his answer first.
            nobody = Request("", self._path, {}, None, self._arrived_ns)
            self._waiting.append((nobody, MALFORMED, False))
            self._next()

    def pause_writing(self) -> None:
        """Answers are not taken: no more of them are made."""
        self._full = True

    def resume_writing(self) -> None:
        """They are taken again."""
        self._full = False
        self._next()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """A part of what is asked for."""
        self._url += url
        self._head_bytes(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header as a whole, or a trailer."""
        if not self._headed:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._head_bytes(name, value)

    def on_headers_complete(self) -> None:
        """The head: whoever may not come in is told so without his body."""
        self._headed = True
        self._untold = 0
        if self._parser.should_upgrade():
            # The parser would leave the body alone. The edge takes such offers out.
            raise httptools.HttpParserError("another protocol is offered")
        self._path = _path(self._url)
        refusal = self._host.admit(self._path)
        if refusal is not None:
            self._ask(refusal)
            return
        self._inside += 1
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(CONTINUE)

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._untold = 0
        if self._asked:
            return
        self._size += len(part)
        if self._size > self._limit:
            self._ask()
        else:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._untold = 0
        if not self._asked:
            self._ask()

    def _begin(self) -> None:
        self._arrived_ns = time.perf_counter_ns()
        self._url = b""
        self._path = ""
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._size = self._head = 0
        self._headed = self._asked = False

    def _head_bytes(self, *parts: bytes) -> None:
        self._untold = 0
        self._head += sum(map(len, parts))
        if self._head > MAX_HEAD_BYTES:
            raise httptools.HttpParserError("the head is too large")

    def _ask(self, refusal: Answer | None = None) -> None:
        """The request goes in line, or what it is told in place of an answer."""
        self._asked = True
        # The connection stays; what was sent over it need not.
        parts, self._parts = self._parts, []
        body = None
        if self._size <= self._limit:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, self._path, self._headers, body, self._arrived_ns)
        self._waiting.append((request, refusal, self._parser.should_keep_alive()))
        self._next()

    def _next(self) -> None:
        """Answer whoever is first in line, if it is his turn."""
        while self._waiting and self._task is None and not self._full:
            request, refusal, keep = self._waiting.popleft()
            if refusal is not None:
                self._write(refusal, request.method != "HEAD", keep)
                continue
            self._task = asyncio.get_running_loop().create_task(self._answered(request, keep))
        # Who asks on without waiting for answers is not read for the time being.
        if self._paused != bool(self._waiting) and not self._transport.is_closing():
            self._paused = not self._paused
            (self._transport.pause_reading if self._paused else self._transport.resume_reading)()

    async def _answered(self, request: Request, keep: bool) -> None:
        try:
            answer = await self._host.answer(request)
        except asyncio.CancelledError:
            return
        # Whatever it was, this connection goes on.
        except Exception:
            log.exception("a request was not answered: %s %s", request.method, request.path)
            answer = FAILED
        self._task = None
        self._leave()
        self._write(answer, request.method != "HEAD", keep)
        if self._waiting:
            self._next()

    def _leave(self) -> None:
        self._inside -= 1
        self._host.gone()

    def _write(self, answer: Answer, whole: bool, keep: bool) -> None:
        """An answer in one piece: in two it would be two system calls."""
        if self._transport.is_closing():
            return
        status, body, headers = answer
        keep = keep and not (self._closing and not self._waiting)
        lines = [f"HTTP/1.1 {status} {PHRASES.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"content-length: {len(body)}")
        lines.append("\r\n" if keep else "connection: close\r\n\r\n")
        head = "\r\n".join(lines).encode("latin-1", "replace")
        self._transport.write(head + body if whole else head)
        if not keep:
            self.close()


def _path(url: bytes) -> str:
    """The path of what is asked for; a proxy's form names the host before it."""
    if not url.startswith(b"/"):
        url = httptools.parse_url(url).path or b"/"
    path = url.partition(b"?")[0].decode("latin-1")
    return unquote(path, "latin-1") if "%" in path else path
