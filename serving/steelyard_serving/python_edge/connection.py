"""The server's side of HTTP: uvicorn's, with HAProxy's time limit for heads and its words."""

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from steelyard_serving.python_edge.said import MALFORMED, OFFERED, TOO_SLOW, Said

HEAD_S = 10.0
"""A request's head must be here so soon after its first byte, or after the connection."""
LENGTHS = (b"content-length", b"transfer-encoding")
"""Headers of a request that has a body, if their value is not 0."""


class Connection(HttpToolsProtocol):
    """One connection."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request, for so long."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._arrived()
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is here.

        The parser reads nothing after one that offers another protocol (``Upgrade``): without a
        body it is answered, and the connection ends. HAProxy takes the offer out instead.
        """
        self._arrived()
        offered = self.parser.should_upgrade()
        if offered and any(name in LENGTHS and size != b"0" for name, size in self.headers):
            raise httptools.HttpParserError("a body that would not be read")
        super().on_headers_complete()
        if offered:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is told so in the protocol's form."""
        self._arrived()
        self._end(OFFERED if self.parser.should_upgrade() else MALFORMED)

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEAD_S, self._end, TOO_SLOW)

    def _arrived(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self, said: Said) -> None:
        headers: dict[str, Any] = {
            **said.headers, "content-length": len(said.body), "connection": "close",
        }  # fmt: skip
        lines = [f"HTTP/1.1 {said.status} {HTTPStatus(said.status).phrase}",
                 *(f"{name}: {value}" for name, value in headers.items()), "", ""]  # fmt: skip
        self.transport.write("\r\n".join(lines).encode() + said.body)
        self.transport.close()
