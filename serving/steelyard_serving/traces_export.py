"""Spans on their way to an OpenTelemetry collector: OTLP over HTTP, as protobuf.

Requests wait for none of it. Traces that a caller keeps wait in a bounded queue for a thread of
their own; what finds no room, and what the collector does not take, is dropped and counted.
"""

import http.client
import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from secrets import token_hex
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from steelyard import __version__
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_serving.metrics import Metrics
from steelyard_serving.spans import Span, Value, spans_of
from steelyard_serving.trace import context
from steelyard_serving.work import Work

WAITING = 2_048
"""Traces that may wait."""
TOGETHER = 256
"""Traces of one message."""
GATHER_S = 0.5
"""Seconds that a message waits for more traces."""
TIMEOUT_S = 10.0
"""As OpenTelemetry's own exporters have it."""
STOP_S = 2.0
"""What a replica that stops gives the collector for the last message."""
KINDS = {
    "server": trace_pb2.Span.SPAN_KIND_SERVER, "internal": trace_pb2.Span.SPAN_KIND_INTERNAL,
}  # fmt: skip
log = logging.getLogger(__name__)


class TracesExport:
    """Sends what one replica answered to the collector of the settings."""

    def __init__(self, settings: Settings, version: ModelVersion, metrics: Metrics) -> None:
        self._collector = _Collector(settings)
        self._version = version
        self._metrics = metrics
        self._traces: queue.Queue[list[Span] | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def offer(self, work: Work, status: int) -> None:
        """Take over an answered request, if its caller keeps its trace; never waits or raises."""
        caller = context(work.headers)
        if caller is None or not caller.sampled:
            return
        ended_ns = time.perf_counter_ns()
        spans = spans_of(self._version, work, status, caller, ended_ns, lambda: token_hex(8))
        try:
            self._traces.put_nowait(spans)
        except queue.Full:
            self._metrics.traced("dropped", 1)

    def stop(self) -> None:
        """Send what waits, as far as the collector takes it soon; repeating it does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with suppress(queue.Full):  # then it is awake
            self._traces.put_nowait(None)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._traces.empty()):
            first = self._traces.get()
            self._stopping.wait(GATHER_S)
            traces = [one for one in (first, *self._more()) if one is not None]
            if not traces:
                continue
            failure = self._collector.send(encoded(span for spans in traces for span in spans))
            self._metrics.traced("failed" if failure else "sent", len(traces))
        self._collector.close()

    def _more(self) -> Iterable[list[Span] | None]:
        for _ in range(TOGETHER - 1):
            try:
                yield self._traces.get_nowait()
            except queue.Empty:
                return


def encoded(spans: Iterable[Span]) -> bytes:
    """The message of the OpenTelemetry protocol that holds these spans."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.extend(
        _attributes({"service.name": "steelyard", "service.version": __version__})
    )
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = __name__, __version__
    for one in spans:
        span = scope.spans.add(
            trace_id=bytes.fromhex(one.trace_id), span_id=bytes.fromhex(one.span_id),
            parent_span_id=bytes.fromhex(one.parent_id), name=one.name, kind=KINDS[one.kind],
            start_time_unix_nano=one.start_ns, end_time_unix_nano=one.end_ns,
            attributes=_attributes(one.attributes),
        )  # fmt: skip
        if one.failed:
            span.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    data: bytes = message.SerializeToString()
    return data


def _attributes(said: Mapping[str, Value]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int)
                 else AnyValue(string_value=value))
        for key, value in said.items()
    ]  # fmt: skip


class _Collector:
    """One connection to the collector, opened again when it breaks."""

    def __init__(self, settings: Settings) -> None:
        place = urlsplit(settings.otlp_endpoint)
        kind = (
            http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(place.netloc, timeout=TIMEOUT_S)
        self._path = f"{place.path.rstrip('/')}/v1/traces"
        self._headers = {"content-type": "application/x-protobuf", **settings.otlp_header_lines}
        self._complaint = ""

    def send(self, message: bytes) -> str:
        """Post a message; why it was not taken, empty when it was."""
        failure = self._sent(message)
        if failure and failure != self._complaint:
            log.warning("traces are not taken by the collector: %s", failure)
        self._complaint = failure
        return failure

    def _sent(self, message: bytes) -> str:
        again = self._connection.sock is not None  # one that idled may have been closed meanwhile
        failure, answered = self._once(message)
        if failure and again and not answered:
            failure, _ = self._once(message)
        return failure

    def _once(self, message: bytes) -> tuple[str, bool]:
        """Why it failed, and whether the collector said so itself."""
        try:
            self._connection.request("POST", self._path, message, self._headers)
            response = self._connection.getresponse()
            response.read()
        # A value that no header can hold is a ValueError.
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return f"{type(error).__name__}: {error}", False
        return ("" if response.status < 300 else f"status {response.status}"), True

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()
