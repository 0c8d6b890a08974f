"""One inference request on its way, and the watch that says what it cost."""

import time

from steelyard.domain.api_key import ApiKey
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.serving_snapshot import DEFAULT, Snapshot
from steelyard_serving.inference import Inferred
from steelyard_serving.protocols.protocol import Headers, InferenceProtocol

NOTHING_SET = Snapshot()


class Work:
    """What is known of a request so far; what is not yet known is the class's default.

    Times are in nanoseconds. ``busy_ns`` is what held the device: the request's own slices of the
    event loop, ``read_ns`` of them before its inference, and ``infer_ns``, its part of one.
    Waiting is none of it, but ``queue_ns``.
    """

    body: bytes | None = None
    """None before it was read and when it was too large; decompressed, what the client meant."""
    snapshot: Snapshot = NOTHING_SET
    policy: ServingPolicy = DEFAULT
    key: ApiKey | None = None
    items = 0
    deadline_ns: int | None = None
    flags: str | None = None
    batch: int | None = None
    rows = 0
    """Rows of the whole inference, others' included; 0 when there was none."""
    leads = False
    """Whether it stands for an inference that others may have shared."""
    cached: bool | None = None
    """Whether the answer was in the cache; None: none was asked."""
    read_ns = 0
    lookup_ns = 0
    infer_ns = 0
    queue_ns = 0
    asked_ns = 0
    """When it asked for an inference, by the clock of ``arrived_ns``; 0: it never did."""
    begun_ns = 0
    """When its inference began; 0: it never did."""
    told_ns = 0
    """When the outputs were there."""

    def __init__(
        self,
        protocol: InferenceProtocol,
        prediction_id: str,
        headers: Headers,
        received_us: int,
        arrived_ns: int,
        probe: bool = False,
    ) -> None:
        """``received_us`` and ``arrived_ns`` are one moment, by the calendar and by the watch."""
        self.protocol = protocol
        self.prediction_id = prediction_id
        self.headers = headers
        self.received_us = received_us
        self.probe = probe
        self.busy_ns = 0
        self.arrived_ns = arrived_ns
        self._since_ns = time.perf_counter_ns()

    def pause(self) -> None:
        """Others' turn: what follows is waiting, or an inference that is counted by itself."""
        self.busy_ns += time.perf_counter_ns() - self._since_ns

    def resume(self) -> None:
        """Its own slice of the event loop begins."""
        self._since_ns = time.perf_counter_ns()

    def inferred(self, one: Inferred) -> None:
        """Take over what its inference was; the slice after it begins."""
        self.read_ns = self.busy_ns
        self.queue_ns += one.queue_ns
        self.infer_ns = one.infer_ns
        self.busy_ns += one.infer_ns
        self.batch, self.rows, self.leads = one.batch, one.rows, one.leads
        self.told_ns = self._since_ns = time.perf_counter_ns()
        if one.rows:
            self.begun_ns = self.asked_ns + one.queue_ns

    def odd(self, flag: str) -> None:
        """Note what is odd about the inputs."""
        self.flags = flag if self.flags is None else f"{self.flags},{flag}"
