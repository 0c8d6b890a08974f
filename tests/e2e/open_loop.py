"""Load of our own: requests at a fixed rate whatever becomes of them, or as fast as they return.

A request goes out when its moment comes, over a connection that is idle or a new one, and its
time counts from that moment: a server that stands still is not asked less for it. No answer at
all (refused, broken off, late) is a failure with status 0, and nothing is asked twice.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

TIMEOUT_S = 30.0
IDLE_S = 20.0
"""A connection that was idle for longer is not used again: the server may be closing it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; times in seconds since the load began."""

    due_s: float
    took_s: float
    status: int
    headers: Mapping[str, str]
    fault: str = ""

    @property
    def ended_s(self) -> float:
        """When the last byte was there."""
        return self.due_s + self.took_s


@dataclass(frozen=True, slots=True)
class Asked:
    """Where and what is asked; ``headers`` of the n-th request are made for it."""

    url: str
    body: bytes
    headers: Callable[[int], Mapping[str, str]] = lambda number: {}

    def message(self, number: int) -> bytes:
        """The n-th request as it goes out."""
        place = urlsplit(self.url)
        head = {"host": place.netloc, "content-type": "application/json",
                "content-length": str(len(self.body)), **self.headers(number)}  # fmt: skip
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {place.path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


class Load:
    """Asks from a thread of its own; ``answers`` grows in the order in which they end.

    With ``rate``, so many requests a second; without, ``clients`` ask one request after another.
    """

    def __init__(self, asked: Asked, rate: float = 0.0, clients: int = 1) -> None:
        self._asked, self._rate, self._clients = asked, rate, clients
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._idle: list[tuple[float, _Connection]] = []
        self._began = 0.0
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._enough.set()
        self._thread.join()

    @property
    def now_s(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._began

    @property
    def statuses(self) -> Counter[int]:
        """How many answers there are of each status."""
        return Counter(answer.status for answer in list(self.answers))

    @property
    def failed(self) -> list[Answer]:
        """The requests that were not answered with 200."""
        return [answer for answer in list(self.answers) if answer.status != 200]

    @property
    def slowest_s(self) -> float:
        """The longest that any request took."""
        return max((answer.took_s for answer in list(self.answers)), default=0.0)

    def first_good_since(self, moment_s: float) -> Answer | None:
        """The first good answer to a request that was due after a moment."""
        good = [a for a in list(self.answers) if a.status == 200 and a.due_s >= moment_s]
        return min(good, key=lambda answer: answer.ended_s, default=None)

    async def _run(self) -> None:
        clients = (
            [self._at_rate()] if self._rate else [self._client() for _ in range(self._clients)]
        )
        await asyncio.gather(*clients)
        for _, connection in self._idle:
            connection.close()

    async def _at_rate(self) -> None:
        number, under_way = 0, set[asyncio.Task[None]]()
        while not self._enough.is_set():
            due = number / self._rate
            await asyncio.sleep(max(0.0, due - self.now_s))
            task = asyncio.create_task(self._ask(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)

    async def _client(self) -> None:
        while not self._enough.is_set():
            await self._ask(len(self.answers), self.now_s)

    async def _ask(self, number: int, due_s: float) -> None:
        status, headers, fault = 0, dict[str, str](), ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = self._open() or await _Connection.to(self._asked.url)
                try:
                    status, headers = await connection.ask(self._asked.message(number))
                except BaseException:
                    connection.close()
                    raise
            self._idle.append((self.now_s, connection))
        except (OSError, EOFError, ValueError) as error:  # a timeout is an OSError
            fault = repr(error)
        self.answers.append(Answer(due_s, self.now_s - due_s, status, headers, fault))

    def _open(self) -> "_Connection | None":
        """An idle connection that the server has not closed, the one that was used last."""
        while self._idle:
            since, connection = self._idle.pop()
            if self.now_s - since < IDLE_S and not connection.reader.at_eof():
                return connection
            connection.close()
        return None


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, url: str) -> "_Connection":
        place = urlsplit(url)
        return cls(*await asyncio.open_connection(place.hostname, place.port))

    async def ask(self, message: bytes) -> tuple[int, dict[str, str]]:
        """Status and headers of a whole answer; EOFError when it breaks off."""
        self.writer.write(message)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split(" ", 2)[1]), headers

    def close(self) -> None:
        self.writer.close()
