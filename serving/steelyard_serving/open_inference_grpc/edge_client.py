"""Asking the edge over its private socket, also while it is being restarted."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp

from steelyard.domain.errors import Unavailable

PATIENCE_S = 5.0
"""How long a connection may be refused: the supervisor brings the edge back within two seconds."""

LONGEST_S = 120.0
"""Most that a request may take that came without a deadline."""

IDLE_S = 30.0
"""A connection that is not used is closed by us, before the edge would."""

LARGE_BYTES = 2**20


class EdgeAnswer(NamedTuple):
    """Status, headers by their name in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class EdgeClient:
    """Connections to the edge, kept; as many as there may be requests at once."""

    def __init__(self, socket: Path, connections: int) -> None:
        self._socket = socket
        self._connections = connections

    async def __aenter__(self) -> Self:
        """Open; nothing is connected yet."""
        self._session = aiohttp.ClientSession(
            "http://edge",
            connector=aiohttp.UnixConnector(
                str(self._socket), limit=self._connections, keepalive_timeout=IDLE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressing would cost more than it saves on one machine.
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        within_s: float = LONGEST_S,
    ) -> EdgeAnswer:
        """Ask until there is an answer, whatever its status.

        A refused connection has run nothing and is tried again; one that breaks before all of
        the answer is here may have run, and is tried again once, as the edge does with inference.

        Raises:
            Unavailable: the edge is not there, or broke off twice.
            TimeoutError: there was no answer within the time.
        """
        async with asyncio.timeout(within_s):
            until, again = time.monotonic() + PATIENCE_S, True
            while True:
                try:
                    return await self._once(method, path, headers, body)
                except aiohttp.ClientConnectorError as error:
                    if time.monotonic() > until:
                        raise Unavailable(f"the edge does not answer: {error}") from error
                    await asyncio.sleep(0.05)
                except aiohttp.ClientError as error:
                    if not again:
                        raise Unavailable(f"the edge broke off: {error}") from error
                    again = False

    async def _once(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> EdgeAnswer:
        data = BytesIO(body) if body is not None and len(body) > LARGE_BYTES else body
        # The path is checked and written as it is meant; nothing may rewrite it.
        async with self._session.request(
            method, path, headers=headers, data=data, allow_redirects=False
        ) as response:
            told = {name.lower(): value for name, value in response.headers.items()}
            return EdgeAnswer(response.status, told, await response.read())
