"""The edge's ASGI application: a request in, a version chosen and asked, its answer out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

from steelyard.domain.pin import PIN_HEADER
from steelyard.settings import Settings
from steelyard_serving.edge.canary import FALLBACK_MARK
from steelyard_serving.edge.config import EdgeKeys
from steelyard_serving.python_edge.addresses import Address, address, wrong_method
from steelyard_serving.python_edge.choice import (
    Choice,
    chosen,
    in_its_place,
    numbered,
    said_unit,
    unknown,
)
from steelyard_serving.python_edge.guard import CanaryGuard
from steelyard_serving.python_edge.limits import Limits
from steelyard_serving.python_edge.onward import Question, Versions, answer, failed, one_answer
from steelyard_serving.python_edge.own_answers import INDEX, index, own_answer
from steelyard_serving.python_edge.said import FAILED, PRIVATE, TOO_SLOW, Asked, Said, refusal
from steelyard_serving.python_edge.table import Table

PREDICTION_ID = "x-prediction-id"
BODY_S = 10.0
"""A body must be here so soon after its head."""
INDEX_BYTES = 128 * 1024
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
log = logging.getLogger("steelyard.edge")


class Router:
    """Does what the edge's configuration makes HAProxy do, in the same order."""

    def __init__(
        self, settings: Settings, keys: EdgeKeys, table: Table, guard: CanaryGuard,
        versions: Versions,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._keys = keys
        self._table = table
        self._guard = guard
        self._versions = versions
        self._limits = Limits()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        asked = _asked(scope)
        try:
            said = await self._said(asked, receive)
        except TimeoutError:
            said = TOO_SLOW
        except ConnectionAbortedError:
            return  # nobody is there to be answered
        except Exception:
            log.exception("%s %s was not answered", asked.method, asked.path)
            said = FAILED
        headers = {**said.headers, PREDICTION_ID: asked.prediction_id}
        headers["content-length"] = str(len(said.body))
        encoded = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": said.status, "headers": encoded})
        await send({"type": "http.response.body", "body": said.body})

    async def _said(self, asked: Asked, receive: Receive) -> Said:
        own = own_answer(asked, self._table, self._settings.default_model)
        if own is not None:
            return own
        if asked.path == INDEX:
            return index(self._table, await received(receive, INDEX_BYTES))
        place = address(asked.path, self._settings.default_model)
        if place is None:
            return refusal(404, "no such path")
        wrong = wrong_method(asked.method, place)
        number = wrong or numbered(asked, place, self._keys.pin)
        if isinstance(number, Said):
            return number
        refused = (
            unknown(place, number, self._table)
            or self._limits.over(place, asked.headers, self._table)
            or self._too_large(asked)
        )
        return refused or await self._of_a_version(asked, place, number, receive)

    def _too_large(self, asked: Asked) -> Said | None:
        """A body that says beforehand that it is; the parser has checked the number."""
        limit = self._settings.body_limit_bytes
        if int(asked.headers.get("content-length", "0")) <= limit:
            return None
        return refusal(413, f"the body is larger than {limit} bytes")

    async def _of_a_version(
        self, asked: Asked, place: Address, number: str | None, receive: Receive
    ) -> Said:
        # A byte too many is passed on: the replica refuses it, and has it on record.
        body = await received(receive, self._settings.body_limit_bytes + 1)
        steering = self._table.steering(place.model)
        unit = said_unit(asked, body, steering, self._settings.unit_fields)
        if isinstance(unit, Said):
            return unit
        choice = chosen(asked, place, number, unit, self._table, self._keys.bucket)
        if choice.arm != "canary":
            return await self._answer(choice, asked, place.asked, body)
        if self._guard.diverts(choice):
            return await self._answer(in_its_place(choice, "stable"), asked, place.asked, body)
        return await self._canary(choice, asked, place.asked, body)

    async def _canary(self, choice: Choice, asked: Asked, what: str, body: bytes) -> Said:
        """The canary, then stable once, then the canary as patiently as any version.

        Only when stable could be reached at the very moment, the canary is to blame.
        """
        said = await one_answer(self._versions, self._question(choice, asked, what, body))
        if said is not None:
            self._guard.count(choice, failed(said))
            return said
        fallback = in_its_place(choice, FALLBACK_MARK)
        said = await one_answer(self._versions, self._question(fallback, asked, what, body))
        if said is None:
            return await self._answer(choice, asked, what, body)
        self._guard.count(choice, True)
        return said

    async def _answer(self, choice: Choice, asked: Asked, what: str, body: bytes) -> Said:
        return await answer(self._versions, self._question(choice, asked, what, body))

    def _question(self, choice: Choice, asked: Asked, what: str, body: bytes) -> Question:
        headers = {**asked.headers, PREDICTION_ID: asked.prediction_id, **choice.told}
        if "traceparent" in headers:
            headers["x-steelyard-arrived-us"] = str(asked.arrived_us)
        path = f"/v/{choice.model}/{choice.version}/{what}"
        return Question(choice.model, choice.version, asked.method, path, headers, body)


def _asked(scope: Message) -> Asked:
    lines = [
        (name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))
        for name, value in scope["headers"]
    ]
    shown = dict(lines)
    pin = shown.get(PIN_HEADER)
    if any(name.startswith(PRIVATE) for name in shown):
        lines = [(name, value) for name, value in lines if not name.startswith(PRIVATE)]
        shown = dict(lines)
    path = scope["raw_path"].decode("latin-1")
    arrived_us = time.time_ns() // 1_000
    return Asked(scope["method"], path, lines, shown, str(uuid4()), arrived_us, pin)


async def received(receive: Receive, most_bytes: int) -> bytes:
    """A request's body, or its first bytes when it has more.

    Raises:
        ConnectionAbortedError: who sent it went away.
        TimeoutError: it did not arrive in time.
    """
    parts, size, more = [], 0, True
    async with asyncio.timeout(BODY_S):
        while more and size < most_bytes:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionAbortedError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
    return b"".join(parts)[:most_bytes]
