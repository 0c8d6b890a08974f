"""How a version's replicas are asked: by HTTP at the port that they share, over kept connections.

The answers are our own replicas', so little of HTTP has to be understood: each has a length.
"""

import asyncio
from collections import defaultdict

import httptools

from steelyard_serving.audit import ANSWER
from steelyard_serving.door_ports import LOOPBACK
from steelyard_serving.python_edge.onward import Absent, BrokeOff, Question
from steelyard_serving.python_edge.said import ASTRAY, BROKE_OFF, Said
from steelyard_serving.python_edge.table import Table

CONNECT_S = 1.0
IDLE_S = 60.0
"""A connection that is not used is closed by us, before the replica would."""
HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "te",
                 "trailer", "upgrade", "proxy-connection"})  # fmt: skip
"""Headers that are of one connection."""


class Line(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self) -> None:
        self.since = 0.0
        """When it was used last, by the loop's clock."""
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._waits: asyncio.Future[Said] | None = None
        self._begin()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The replica took the connection."""
        self._transport, self.is_open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits for an answer gets none, or half of one."""
        self.is_open = False
        if self._waits is not None and not self._waits.done():
            if self._headers:
                self._waits.set_result(BROKE_OFF)
            else:
                self._waits.set_exception(BrokeOff())

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """All of it is here."""
        status, headers = self._parser.get_status_code(), self._headers
        said = Said(status, b"".join(self._body), headers) if ANSWER in headers else ASTRAY
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(said)
        if self._parser.should_keep_alive():
            self._begin()
        else:
            self.close()

    async def ask(self, question: bytes) -> Said:
        """Send a whole request and wait for the answer; a line given up on is closed.

        Raises:
            BrokeOff: the connection ended before an answer began.
        """
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._waits = loop.create_future()
        try:
            self._transport.write(question)
            return await self._waits
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waits, self.since = None, loop.time()

    def close(self) -> None:
        """End it; nothing more is asked here."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []


class Doors:
    """The connections to all versions; ``table`` knows the versions' ports."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._idle: dict[int, list[Line]] = defaultdict(list)

    async def ask(self, question: Question) -> Said:
        """One attempt at a version; whatever answers in its place without our mark is nobody.

        Raises:
            Absent: nobody listens at its port, or it has none.
            BrokeOff: the replica ended before it answered.
        """
        port = self._table.door(question.model, question.version)
        if port is None:
            raise Absent
        sent, line = written(question), self._kept(port)
        if line is not None:
            try:
                return await self._asked(line, port, sent)
            except BrokeOff:
                pass  # it may have been closed while nobody used it
        return await self._asked(await self._connected(port), port, sent)

    async def _asked(self, line: Line, port: int, sent: bytes) -> Said:
        said = await line.ask(sent)
        if line.is_open:
            self._idle[port].append(line)
        return said

    def close(self) -> None:
        """Close what is kept."""
        for lines in self._idle.values():
            for line in lines:
                line.close()

    def _kept(self, port: int) -> Line | None:
        lines, now = self._idle[port], asyncio.get_running_loop().time()
        while lines:
            line = lines.pop()
            if line.is_open and now - line.since < IDLE_S:
                return line
            line.close()
        return None

    async def _connected(self, port: int) -> Line:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, line = await loop.create_connection(Line, LOOPBACK, port)
        except OSError as error:
            raise Absent from error
        return line


def written(question: Question) -> bytes:
    """A request's bytes. ``HEAD`` is asked as ``GET``: the server's side leaves the body out."""
    method = "GET" if question.method == "HEAD" else question.method
    lines = [f"{method} {question.path} HTTP/1.1"]
    lines += [f"{name}: {one}" for name, one in question.headers.items() if name not in HOP]
    lines += [f"content-length: {len(question.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + question.body
