"""The replica's HTTP side, without Ray: a request in, an answer out, counted and recorded.

Statuses are final: 520 is "inference failed" (the edge makes it 500), because a plain 500 or 404
is how Ray Serve says that nothing ran, and those are tried again.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from steelyard.domain.errors import InvalidInput, SteelyardError
from steelyard_serving.audit import ANSWER, PREDICTION_ID, PROBE, Answered, Outcome
from steelyard_serving.meter import Meter
from steelyard_serving.protocols import open_inference, scoring
from steelyard_serving.protocols.compression import compressed, decompressed
from steelyard_serving.protocols.faults import TooLarge, UnknownMediaType
from steelyard_serving.protocols.protocol import (
    Headers,
    InferenceProtocol,
    InferRequest,
    Written,
)
from steelyard_serving.protocols.statistics import Stages, Statistics
from steelyard_serving.protocols.tensors import Array, classes
from steelyard_serving.replica import OnnxModel

INFERENCE_FAILED = 520
SLOW_NS = 5_000_000
"""A model slower than this infers in a thread, so that health checks are answered meanwhile."""

PROTOCOLS: Mapping[str, InferenceProtocol] = {"infer": open_inference, "invocations": scoring}
"""The protocol of an inference by the last word of its path."""

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """Status, body and headers."""

    status: int
    body: bytes
    headers: Headers


class Ingress:
    """Answers the protocols' calls for one version."""

    def __init__(self, model: OnnxModel, meter: Meter, body_limit_bytes: int) -> None:
        self._model = model
        self._meter = meter
        self._limit = body_limit_bytes
        self._statistics = Statistics()
        version = model.version
        self._said = {
            "x-model-version": str(version.version),
            "x-variant": version.variant.encode("ascii", "replace").decode(),
            ANSWER: "1",
        }
        self._thread = ThreadPoolExecutor(1, "infer") if model.steady_ns > SLOW_NS else None

    async def answer(
        self, method: str, path: str, headers: Headers, body: AsyncIterator[bytes]
    ) -> Answer:
        """Answer one request; ``path`` ends in what is asked: ``/infer``, ``/ready``, ``/``."""
        prediction_id = headers.get(PREDICTION_ID) or str(uuid4())
        version = self._model.version
        asked = path[path.rfind("/") + 1 :]
        protocol = PROTOCOLS.get(asked)
        if protocol is not None:
            if method == "POST":
                return await self._infer(protocol, prediction_id, headers, body)
            refusal = protocol.refuse(405, SteelyardError("use POST"))
            return self._reply(prediction_id, 405, refusal)
        if asked == "ready":
            return self._reply(prediction_id, 200, open_inference.ready(version))
        if asked == "stats":
            told = open_inference.document(self._statistics.told(version))
            return self._reply(prediction_id, 200, told)
        return self._reply(prediction_id, 200, open_inference.metadata(version))

    async def _infer(
        self,
        protocol: InferenceProtocol,
        prediction_id: str,
        headers: Headers,
        stream: AsyncIterator[bytes],
    ) -> Answer:
        received_us = time.time_ns() // 1_000
        body = await self._read(stream)
        work = _Work(protocol, prediction_id, headers, body, received_us)
        outcome, written = await self._run(work)
        self._count(Answered(prediction_id, headers, received_us, work.body, outcome))
        if PROBE not in headers:
            self._statistics.add(received_us, outcome.items, outcome.busy_ns, work.stages)
        return self._reply(prediction_id, outcome.status, written)

    async def _run(self, work: "_Work") -> tuple[Outcome, Written]:
        """Read, infer and write; busy time is all three, since they hold the device's thread."""
        started = time.perf_counter_ns()
        version, items = self._model.version, 0
        try:
            if work.body is None:
                raise TooLarge(f"the body is larger than {self._limit} bytes")
            work.body = decompressed(work.body, work.headers, self._limit)
            request = work.protocol.read(work.body, work.headers, version.signature)
            items, read = request.items, time.perf_counter_ns()
            outputs, infer_ns = await self._predict(request)
            resumed = time.perf_counter_ns()
            written = work.protocol.write(version, request, outputs, work.prediction_id)
            written = compressed(written, work.headers)
        except InvalidInput as fault:
            return _refused(work, started, _status(fault), fault)
        # Whatever the graph raises, the client gets one line and the log the rest.
        except Exception:
            log.exception("inference failed: %s, %s", version.name, work.prediction_id)
            return _refused(
                work, started, INFERENCE_FAILED, SteelyardError("inference failed"), items
            )
        found = classes(outputs, version.signature)
        ended = time.perf_counter_ns()
        stages = Stages(resumed - read - infer_ns, read - started, infer_ns, ended - resumed)
        work.stages = stages
        return Outcome(200, stages.busy_ns, items, found), written

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
            answered = answered._replace(outcome=outcome._replace(status=500))
        self._meter.add(
            "serve", outcome.busy_ns, outcome.items if outcome.status == 200 else 0,
            requests=1, error=outcome.status >= 500, answered=answered,
        )  # fmt: skip

    def _reply(self, prediction_id: str, status: int, written: Written) -> Answer:
        headers = {**written.headers, **self._said, PREDICTION_ID: prediction_id}
        return Answer(status, written.body, headers)


@dataclass(slots=True)
class _Work:
    """One inference on its way.

    ``body`` is None when it was too large, and what the client meant once it is decompressed;
    ``stages`` is None until there is an answer.
    """

    protocol: InferenceProtocol
    prediction_id: str
    headers: Headers
    body: bytes | None
    received_us: int
    stages: Stages | None = None


def _refused(
    work: _Work, started_ns: int, status: int, fault: SteelyardError, items: int = 0
) -> tuple[Outcome, Written]:
    busy_ns = time.perf_counter_ns() - started_ns
    outcome = Outcome(status, busy_ns, items, error=fault.message)
    return outcome, work.protocol.refuse(status, fault)


def _status(fault: InvalidInput) -> int:
    if isinstance(fault, TooLarge):
        return 413
    return 415 if isinstance(fault, UnknownMediaType) else 400
