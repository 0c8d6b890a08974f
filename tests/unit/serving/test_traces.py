"""Traces that a caller keeps, as a collector gets them: a real one's protocol, over real HTTP."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import SecretStr

from steelyard.bootstrap.counting import counters
from steelyard.domain.errors import InvalidInput
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings, load_settings
from steelyard_serving import traces_export
from steelyard_serving.http_connection import Answer, Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.metrics import Metrics
from steelyard_serving.replica import LoadedModel
from steelyard_serving.spans import ARRIVED_US
from steelyard_serving.traces_export import TracesExport

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEPT, NOT_KEPT = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
BODY = orjson.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
)


class Collector:
    """Takes messages, answers with ``status``, and holds them while ``open`` is not set."""

    def __init__(self) -> None:
        self.status, self.open = 200, threading.Event()
        self.open.set()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                collector.open.wait(30)
                collector._take(self.path, dict(self.headers), data)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/otlp"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def _take(self, path: str, headers: dict[str, str], data: bytes) -> None:
        self.asked.append((path, {name.lower(): value for name, value in headers.items()}))
        if self.status != 200:
            return
        for group in ExportTraceServiceRequest.FromString(data).resource_spans:
            self.resources.append(said(group.resource))
            for scope in group.scope_spans:
                self.spans += scope.spans

    def close(self) -> None:
        """Answer nobody any more."""
        self.open.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def said(one: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in one.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on this machine."""
    made = Collector()
    yield made
    made.close()


class Place:
    """A replica that sends traces."""

    def __init__(self, settings: Settings, served: ServedVersion) -> None:
        self.meter = Meter(settings, served.version)
        metrics = Metrics(settings, served.version)
        self.export = TracesExport(settings, served.version, metrics)
        model = LoadedModel(served.version, served.artifact)
        self._ingress = Ingress(model, self.meter, 2048, metrics=metrics, traces=self.export)
        self._settings = settings

    def ask(self, headers: dict[str, str], body: bytes = BODY) -> Answer:
        """One inference."""
        request = Request("POST", "/v/scale/3/infer", headers, body, time.perf_counter_ns())
        return asyncio.run(self._ingress.answer(request))

    def counted(self) -> dict[str, int]:
        """What became of traces."""
        (counts,) = counters(self._settings).totals().values()
        return {n: counts[f"traces_{n}"] for n in ("sent", "failed", "dropped")}


@pytest.fixture
def place(
    settings: Settings, make_served: Callable[[int], ServedVersion], collector: Collector
) -> Iterator[Place]:
    """A replica of version 3, and the collector that it tells."""
    told = settings.model_copy(update={"otlp_endpoint": collector.url})
    made = Place(told, make_served(3))
    yield made
    made.export.stop()
    made.meter.stop()


def eventually(holds: Callable[[], bool]) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_kept_trace_shows_the_way_from_the_edge_to_the_inference(
    place: Place, collector: Collector
) -> None:
    """Edge, replica, queue, inference: nested, in order, with the prediction's id."""
    before_us = time.time_ns() // 1_000
    answer = place.ask(
        {"traceparent": KEPT, ARRIVED_US: str(before_us), "x-steelyard-arm": "canary"}
    )
    after_ns = time.time_ns()
    place.export.stop()
    edge, replica, queue, infer = collector.spans
    assert {one.trace_id.hex() for one in collector.spans} == {TRACE}
    assert edge.parent_span_id.hex() == CALLER and replica.parent_span_id == edge.span_id
    assert queue.parent_span_id == infer.parent_span_id == replica.span_id
    assert len({one.span_id for one in collector.spans}) == 4
    assert [one.name for one in collector.spans] == [
        "edge scale", "replica scale/3", "queue", "infer"
    ]  # fmt: skip
    assert edge.kind == replica.kind == Span.SPAN_KIND_SERVER
    assert before_us * 1_000 == edge.start_time_unix_nano <= replica.start_time_unix_nano
    assert replica.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano == infer.start_time_unix_nano < infer.end_time_unix_nano
    assert infer.end_time_unix_nano <= replica.end_time_unix_nano <= after_ns
    told = said(replica)
    assert told["steelyard.prediction_id"] == answer.headers["x-prediction-id"]
    assert (told["steelyard.version"], told["feature_flag.result.variant"]) == (3, "canary")
    assert told["http.response.status_code"] == 200
    assert said(infer) == {"steelyard.rows": 1, "steelyard.inference_rows": 1}
    assert collector.resources[0]["service.name"] == "steelyard"
    assert place.counted() == {"sent": 1, "failed": 0, "dropped": 0}


def test_a_moment_that_the_edge_did_not_tell_is_no_span(place: Place, collector: Collector) -> None:
    """Who asks past the edge may write anything there; the traces after it are sent as ever."""
    for wrong in ("9" * 18, "soon", ""):
        assert place.ask({"traceparent": KEPT, ARRIVED_US: wrong}).status == 200
    place.export.stop()
    assert [one.name for one in collector.spans] == ["replica scale/3", "queue", "infer"] * 3
    assert place.counted() == {"sent": 3, "failed": 0, "dropped": 0}


def test_headers_that_cannot_be_sent_are_a_failure_of_each_message(
    settings: Settings, make_served: Callable[[int], ServedVersion], collector: Collector
) -> None:
    """HTTP has no byte for the letter; the thread goes on and counts."""
    headers = SecretStr("x-token=%E2%82%AC")
    told = settings.model_copy(update={"otlp_endpoint": collector.url, "otlp_headers": headers})
    place = Place(told, make_served(3))
    for number in (1, 2):
        place.ask({"traceparent": KEPT})
        eventually(lambda number=number: place.counted()["failed"] == number)  # type: ignore[misc]
    place.export.stop()
    place.meter.stop()
    assert not collector.asked


def test_what_the_caller_does_not_keep_is_not_sent(place: Place, collector: Collector) -> None:
    """No trace, one that is not sampled, one that is malformed."""
    for headers in ({}, {"traceparent": NOT_KEPT}, {"traceparent": "nonsense"}):
        assert place.ask(headers).status == 200
    place.export.stop()
    assert not collector.asked
    assert place.counted() == {"sent": 0, "failed": 0, "dropped": 0}


def test_a_refused_request_has_no_inference_in_its_trace(
    place: Place, collector: Collector
) -> None:
    """What never came so far has no span; a refusal is no failure of the server."""
    assert place.ask({"traceparent": KEPT}, b"{").status == 400
    place.export.stop()
    (replica,) = collector.spans
    assert replica.parent_span_id.hex() == CALLER
    assert said(replica)["http.response.status_code"] == 400
    assert replica.status.code == Status.STATUS_CODE_UNSET


def test_a_failed_inference_is_an_error_in_its_trace(place: Place, collector: Collector) -> None:
    """With the status that the client sees."""
    big = BODY.replace(b"[1,2]}", b"[3e38,2]}")
    assert place.ask({"traceparent": KEPT}, big).status == 520
    place.export.stop()
    replica = collector.spans[0]
    assert replica.status.code == Status.STATUS_CODE_ERROR
    assert said(replica)["http.response.status_code"] == 500


@pytest.mark.parametrize("status", [503, 0])
def test_without_a_collector_requests_are_answered_and_traces_counted(
    place: Place, collector: Collector, status: int
) -> None:
    """One that refuses, and none at all: nobody waits, nothing is kept for later."""
    collector.status = status
    if not status:
        collector.close()
    assert all(place.ask({"traceparent": KEPT}).status == 200 for _ in range(3))
    place.export.stop()
    assert place.counted() == {"sent": 0, "failed": 3, "dropped": 0}


def test_a_collector_that_hangs_holds_no_request_up(
    place: Place, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded: what finds no room is dropped and counted, the rest comes in order."""
    monkeypatch.setattr(place.export._traces, "maxsize", 2)
    monkeypatch.setattr(traces_export, "GATHER_S", 0.0)
    collector.open.clear()
    assert place.ask({"traceparent": KEPT}).status == 200
    eventually(lambda: not place.export._traces.qsize())
    assert all(place.ask({"traceparent": KEPT}).status == 200 for _ in range(5))
    collector.open.set()
    place.export.stop()
    assert place.counted() == {"sent": 3, "failed": 0, "dropped": 3}


def test_the_collectors_headers_go_along(
    settings: Settings, make_served: Callable[[int], ServedVersion], collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As the environment of every child process has them; where messages go is OTLP's own path."""
    monkeypatch.setenv("STEELYARD_HOME", str(settings.home))
    monkeypatch.setenv("STEELYARD_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("STEELYARD_OTLP_HEADERS", "x-key=a%20b,x-tenant=t")
    told = load_settings()
    assert told.as_environment()["STEELYARD_OTLP_HEADERS"] == "x-key=a%20b,x-tenant=t"
    assert "a%20b" not in repr(told) + told.model_dump_json()
    place = Place(told, make_served(3))
    place.ask({"traceparent": KEPT})
    place.export.stop()
    place.meter.stop()
    ((path, headers),) = collector.asked
    assert path == "/otlp/v1/traces" and headers["content-type"] == "application/x-protobuf"
    assert (headers["x-key"], headers["x-tenant"]) == ("a b", "t")


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENDPOINT", "collector:4318"), ("ENDPOINT", "http://a b"), ("HEADERS", "no-value"),
     ("HEADERS", "x=a%0d%0ay: b"), ("HEADERS", "a b=c")],
)  # fmt: skip
def test_a_collector_that_cannot_be_meant_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """And the message does not tell what may be a password."""
    monkeypatch.setenv(f"STEELYARD_OTLP_{name}", value)
    with pytest.raises(InvalidInput) as refused:
        load_settings()
    assert f"otlp_{name.lower()}" in str(refused.value.faults)
    assert name == "ENDPOINT" or value not in str(refused.value.faults)
