"""Asking a version until it answers: what did not run is tried again, as HAProxy tries it."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from steelyard.domain.audit import BLAMELESS
from steelyard_serving.edge.config import ATTEMPTS, ROOM_MS
from steelyard_serving.python_edge.said import (
    ABSENT,
    BROKE_OFF,
    PRIVATE,
    TOOK_TOO_LONG,
    Said,
)

LONGEST_S = 60.0
"""Most that a version may take."""
INFERENCE_FAILED = 520
"""How a replica says 500, so that nobody takes it for a failure on the way."""
HIDDEN = ("x-request-id", "server", "content-length", "connection")


class Question(NamedTuple):
    """What one version is asked: ``path`` is its own, ``/v/MODEL/VERSION/ASKED``."""

    model: str
    version: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Absent(Exception):
    """There is no replica; nothing ran."""


class BrokeOff(Exception):
    """The replica that had the request is gone; nobody got an answer."""


class Versions(Protocol):
    """Whoever reaches the versions' replicas."""

    async def ask(self, question: Question) -> Said:
        """One attempt; raises ``Absent`` or ``BrokeOff``."""
        ...


async def answer(versions: Versions, question: Question) -> Said:
    """The version's answer as the client gets it, or why there is none.

    Every second repetition waits before it asks, as in HAProxy's waiting room: a replica that was
    killed is back in seconds.
    """
    last = ABSENT
    try:
        async with asyncio.timeout(LONGEST_S):
            for attempt in range(1 + ATTEMPTS):
                if attempt and attempt % 2 == 0:
                    await asyncio.sleep(ROOM_MS / 1000)
                try:
                    return _told(await versions.ask(question))
                except Absent:
                    last = ABSENT
                except BrokeOff:
                    last = BROKE_OFF
    except TimeoutError:
        return TOOK_TOO_LONG
    return last


async def one_answer(versions: Versions, question: Question) -> Said | None:
    """The version's answer at the first attempt; None: nobody was reached."""
    try:
        async with asyncio.timeout(LONGEST_S):
            return _told(await versions.ask(question))
    except TimeoutError:
        return TOOK_TOO_LONG
    except (Absent, BrokeOff):
        return None


def failed(said: Said) -> bool | None:
    """Whether an answer speaks against the version; None: it says nothing of it."""
    return None if said.status in BLAMELESS else said.status >= 500


def _told(answer: Said) -> Said:
    """Without what is between the edge and the replica alone."""
    status = 500 if answer.status == INFERENCE_FAILED else answer.status
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in HIDDEN and not name.startswith(PRIVATE)
    }
    return Said(status, answer.body, headers)
