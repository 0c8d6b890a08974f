"""The replica's HTTP side, without Ray: a request in, an answer out, counted and recorded.

Statuses are final: 520 is "inference failed" (the edge makes it 500), because a plain 500 or 404
is how Ray Serve says that nothing ran, and those are tried again.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import uuid4

from steelyard.domain.errors import InvalidInput
from steelyard_serving import open_inference
from steelyard_serving.audit import ANSWER, PREDICTION_ID, PROBE, Answered, Outcome
from steelyard_serving.meter import Meter
from steelyard_serving.open_inference import Array, InferRequest
from steelyard_serving.replica import OnnxModel

INFERENCE_FAILED = 520
SLOW_NS = 5_000_000
"""A model slower than this infers in a thread, so that health checks are answered meanwhile."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON body and headers."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Ingress:
    """Answers the protocol's calls for one version."""

    def __init__(self, model: OnnxModel, meter: Meter, body_limit_bytes: int) -> None:
        self._model = model
        self._meter = meter
        self._limit = body_limit_bytes
        self._thread = ThreadPoolExecutor(1, "infer") if model.steady_ns > SLOW_NS else None

    async def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: AsyncIterator[bytes]
    ) -> Answer:
        """Answer one request; ``path`` ends in ``/infer``, ``/ready`` or ``/``."""
        prediction_id = headers.get(PREDICTION_ID) or str(uuid4())
        version = self._model.version
        if path.endswith("/infer"):
            if method != "POST":
                return self._reply(prediction_id, 405, open_inference.error("use POST"))
            return await self._infer(prediction_id, headers, body)
        if path.endswith("/ready"):
            return self._reply(prediction_id, 200, open_inference.ready(version))
        return self._reply(prediction_id, 200, open_inference.metadata(version))

    async def _infer(
        self, prediction_id: str, headers: Mapping[str, str], stream: AsyncIterator[bytes]
    ) -> Answer:
        received_us = time.time_ns() // 1_000
        body = await self._read(stream)
        if body is None:
            text = f"the body is larger than {self._limit} bytes"
            outcome, answer = Outcome(413, 0, error=text), open_inference.error(text)
        else:
            outcome, answer = await self._run(prediction_id, body)
        self._count(Answered(prediction_id, headers, received_us, body, outcome))
        return self._reply(prediction_id, outcome.status, answer)

    async def _run(self, prediction_id: str, body: bytes) -> tuple[Outcome, bytes]:
        """Parse, infer and encode; busy time is all three, since they hold the device's thread."""
        started = time.perf_counter_ns()
        version = self._model.version
        try:
            request = open_inference.parse(body, version.signature)
        except InvalidInput as fault:
            outcome = Outcome(400, time.perf_counter_ns() - started, error=fault.message)
            return outcome, open_inference.error(fault.message)
        try:
            parsed_ns = time.perf_counter_ns() - started
            outputs, infer_ns = await self._predict(request)
            resumed = time.perf_counter_ns()
            answer = open_inference.encode(version, request, outputs, prediction_id)
        # Whatever the graph raises, the client gets one line and the log the rest.
        except Exception:
            log.exception("inference failed: %s, %s", version.name, prediction_id)
            text = "inference failed"
            busy_ns = time.perf_counter_ns() - started
            failed = Outcome(INFERENCE_FAILED, busy_ns, request.items, error=text)
            return failed, open_inference.error(text)
        classes = open_inference.classes(outputs, version.signature)
        busy_ns = parsed_ns + infer_ns + time.perf_counter_ns() - resumed
        return Outcome(200, busy_ns, request.items, classes), answer

    async def _predict(self, request: InferRequest) -> tuple[dict[str, Array], int]:
        if self._thread is None:
            return self._timed(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._timed, request)

    def _timed(self, request: InferRequest) -> tuple[dict[str, Array], int]:
        started = time.perf_counter_ns()
        outputs = self._model.run(request.inputs)
        return outputs, time.perf_counter_ns() - started

    async def _read(self, stream: AsyncIterator[bytes]) -> bytes | None:
        """The body, or None when it is too large; chunked bodies do not say so beforehand."""
        parts, size = [], 0
        async for part in stream:
            size += len(part)
            if size > self._limit:
                return None
            parts.append(part)
        return b"".join(parts)

    def _count(self, answered: Answered) -> None:
        """Book the work. A probe is our own doing: time spent, but no request and no record."""
        outcome = answered.outcome
        if PROBE in answered.headers:
            self._meter.add("warmup", outcome.busy_ns)
            return
        if outcome.status == INFERENCE_FAILED:
            answered = answered._replace(outcome=replace(outcome, status=500))
        self._meter.add(
            "serve", outcome.busy_ns, outcome.items if outcome.status == 200 else 0,
            requests=1, error=outcome.status >= 500, answered=answered,
        )  # fmt: skip

    def _reply(self, prediction_id: str, status: int, body: bytes) -> Answer:
        headers = {
            "x-model-version": str(self._model.version.version),
            PREDICTION_ID: prediction_id,
            ANSWER: "1",
        }
        return Answer(status, body, headers)
