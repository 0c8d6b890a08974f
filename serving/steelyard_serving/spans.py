"""What one answered request was, as spans of its caller's trace: edge, replica, queue, inference.

Pure. All moments are of the replica's clock but the edge's arrival, which the edge tells. The way
back from the replica to the client is in no span: nobody here sees its end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from steelyard.domain.model_version import ModelVersion
from steelyard_serving.trace import TraceContext
from steelyard_serving.work import Work

ARRIVED_US = "x-steelyard-arrived-us"
"""When the edge had a request's head, in microseconds of Unix time; for traced requests."""
ARM = "x-steelyard-arm"
Value = str | int
SpanKind = Literal["server", "internal"]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a request's way. Times are nanoseconds of Unix time."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    failed: bool = False


def spans_of(
    version: ModelVersion,
    work: Work,
    status: int,
    caller: TraceContext,
    ended_ns: int,
    new_id: Callable[[], str],
) -> list[Span]:
    """The spans of a request; ``ended_ns`` is when its answer was ready, as ``work`` counts time.

    ``new_id`` gives the ids of spans. A part that a request never came to has no span.
    """

    def at(moment_ns: int) -> int:
        return work.received_us * 1_000 + moment_ns - work.arrived_ns

    made: list[Span] = []

    def add(
        parent: str, name: str, kind: SpanKind, start_ns: int, end_ns: int,
        said: Mapping[str, Value], failed: bool = False,
    ) -> str:  # fmt: skip
        span_id = new_id()
        end_ns = max(start_ns, end_ns)
        made.append(
            Span(caller.trace_id, span_id, parent, name, kind, start_ns, end_ns, said, failed)
        )
        return span_id

    parent, answered, failed = caller.span_id, {"http.response.status_code": status}, status >= 500
    arrived_us = work.headers.get(ARRIVED_US, "")
    # Who goes past the edge may write anything; a span's nanoseconds have 64 bits.
    if arrived_us.isdecimal() and len(arrived_us) < 17:
        start_ns = int(arrived_us) * 1_000
        parent = add(parent, f"edge {version.model}", "server", start_ns, at(ended_ns), answered,
                     failed)  # fmt: skip
    said = {**_about(version, work), **answered}
    replica = add(parent, f"replica {version.name}", "server", at(work.arrived_ns), at(ended_ns),
                  said, failed)  # fmt: skip
    if work.asked_ns:
        begun_ns = work.begun_ns or ended_ns
        add(replica, "queue", "internal", at(work.asked_ns), at(begun_ns), {})
    if work.begun_ns:
        rows = {"steelyard.rows": work.items, "steelyard.inference_rows": work.rows}
        add(replica, "infer", "internal", at(work.begun_ns), at(work.told_ns), rows)
    return made


def _about(version: ModelVersion, work: Work) -> dict[str, Value]:
    """OpenTelemetry's words where it has them: an arm is a feature flag's variant."""
    said: dict[str, Value] = {
        "http.request.method": "POST",
        "feature_flag.key": version.model,
        "feature_flag.result.variant": work.headers.get(ARM, "pinned"),
        "steelyard.model": version.model,
        "steelyard.version": version.version,
        "steelyard.variant": version.variant,
        "steelyard.prediction_id": work.prediction_id,
    }
    if work.cached is not None:
        said["steelyard.cache"] = "hit" if work.cached else "miss"
    return said
