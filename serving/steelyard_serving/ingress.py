"""The replica's HTTP side, without Ray: a request in, an answer out, counted and recorded."""

import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol
from uuid import uuid4

from steelyard.domain.audit import BLAMELESS
from steelyard.domain.errors import SteelyardError
from steelyard_serving.audit import ANSWER, PREDICTION_ID, PROBE, Answered, Outcome
from steelyard_serving.http_connection import Answer, Request
from steelyard_serving.internal import is_internal
from steelyard_serving.meter import Meter
from steelyard_serving.metrics import Metrics
from steelyard_serving.pipeline import INFERENCE_FAILED, Checks, Pipeline
from steelyard_serving.protocols import open_inference, scoring
from steelyard_serving.protocols.protocol import Headers, InferenceProtocol, Written
from steelyard_serving.protocols.statistics import Statistics
from steelyard_serving.replica import LoadedModel
from steelyard_serving.shadow import Shadow
from steelyard_serving.work import Work

PROTOCOLS: Mapping[str, InferenceProtocol] = {"infer": open_inference, "invocations": scoring}
"""The protocol of an inference by the last word of its path."""


FOUND: Mapping[bool | None, Literal["hit", "miss"] | None] = {
    None: None,
    True: "hit",
    False: "miss",
}
"""What the metrics call a look into the cache; None: there was none."""


class Traces(Protocol):
    """Where requests go whose callers keep their traces."""

    def offer(self, work: Work, status: int) -> None:
        """Take over an answered request; never waits or raises."""


class Ingress:
    """Answers the protocols' calls for one version."""

    def __init__(
        self,
        model: LoadedModel,
        meter: Meter,
        body_limit_bytes: int,
        checks: Checks | None = None,
        metrics: Metrics | None = None,
        shadow: Shadow | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._version = version = model.version
        self._meter = meter
        self._mark = None if checks is None else checks.mark
        self._metrics = metrics
        self._shadow = shadow
        self._traces = traces
        self._statistics = Statistics()
        self._pipeline = Pipeline(model, body_limit_bytes, checks or Checks(), self._unclaimed)
        self._said = {
            "x-model-version": str(version.version),
            "x-variant": version.variant.encode("ascii", "replace").decode(),
            ANSWER: "1",
        }

    async def answer(self, request: Request) -> Answer:
        """Answer one request; its path ends in what is asked: ``/infer``, ``/ready``, ``/``."""
        prediction_id = request.headers.get(PREDICTION_ID) or str(uuid4())
        asked = request.path[request.path.rfind("/") + 1 :]
        protocol = PROTOCOLS.get(asked)
        if protocol is not None:
            if request.method == "POST":
                return await self._infer(protocol, asked, prediction_id, request)
            refusal = protocol.refuse(405, SteelyardError("use POST"))
            return self._reply(prediction_id, 405, refusal)
        if asked == "ready":
            return self._reply(prediction_id, 200, open_inference.ready(self._version))
        if asked == "stats":
            return self._reply(prediction_id, 200, open_inference.document(self.statistics()))
        return self._reply(prediction_id, 200, open_inference.metadata(self._version))

    def statistics(self) -> dict[str, Any]:
        """What was inferred here since the start, as Triton tells it."""
        return self._statistics.told(self._version)

    async def _infer(
        self,
        protocol: InferenceProtocol,
        asked: str,
        prediction_id: str,
        request: Request,
    ) -> Answer:
        headers, arrived_ns = request.headers, request.arrived_ns
        received_us = (time.time_ns() - time.perf_counter_ns() + arrived_ns) // 1_000
        work = Work(
            protocol, prediction_id, headers, received_us, arrived_ns, self._is_probe(headers)
        )  # fmt: skip
        outcome, written = await self._pipeline.run(work, request.body)
        if work.probe:
            # Our own doing: time spent, but no request and no record.
            self._meter.add("warmup", outcome.busy_ns)
        else:
            self._count(Answered(prediction_id, headers, received_us, work.body, outcome))
            self._observe(work, outcome)
            if self._shadow is not None and outcome.status == 200 and work.body is not None:
                rules = work.snapshot.shadows.get(self._version.model, ())
                self._shadow.offer(rules, asked, headers, work.body, prediction_id)
        return self._reply(prediction_id, outcome.status, written)

    def _is_probe(self, headers: Headers) -> bool:
        """Whether a request is our own; who only says so is counted and recorded as anybody."""
        if PROBE not in headers:
            return False
        return self._mark is None or is_internal(headers, self._mark)

    def _count(self, answered: Answered) -> None:
        """Book the work and keep its record."""
        outcome = answered.outcome
        if outcome.status == INFERENCE_FAILED:
            answered = answered._replace(outcome=outcome._replace(status=500))
        status = outcome.status
        # A copy is no traffic: its cost is the version's, its requests are nobody's.
        copy = answered.headers.get("x-steelyard-arm") == "shadow"
        self._meter.add(
            "shadow" if copy else "serve", outcome.busy_ns, outcome.items if status == 200 else 0,
            requests=1, error=status >= 500 and status not in BLAMELESS, answered=answered,
        )  # fmt: skip

    def _observe(self, work: Work, outcome: Outcome) -> None:
        """Count for whoever watches, by the status that the client sees."""
        self._statistics.add(work, outcome.status == 200)
        status = 500 if outcome.status == INFERENCE_FAILED else outcome.status
        if self._metrics is not None:
            if work.leads:
                self._metrics.executed(work.rows)
            duration_ns = time.perf_counter_ns() - work.arrived_ns
            self._metrics.observe(status, duration_ns, work.queue_ns, FOUND[work.cached])
        if self._traces is not None:
            self._traces.offer(work, status)

    def _unclaimed(self, busy_ns: int) -> None:
        """Time that was spent, and nobody is left to be answered."""
        self._meter.add("serve", busy_ns)

    def _reply(self, prediction_id: str, status: int, written: Written) -> Answer:
        headers = {**written.headers, **self._said, PREDICTION_ID: prediction_id}
        return Answer(status, written.body, headers)
