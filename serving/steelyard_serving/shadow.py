"""Copies of answered requests for a shadow version, which answers nobody.

The answer is out before the copy goes. Copies wait in a bounded queue for a thread of their own;
when it is full they are dropped and counted, so the live path never waits for the shadow. The
shadow's replica records its answer itself, under the arm ``shadow`` and with the prediction that
it repeats, and meters what it costs.
"""

import http.client
import logging
import queue
import threading
from collections.abc import Sequence
from typing import NamedTuple

from steelyard.domain.model_version import ModelVersion
from steelyard.domain.serving_snapshot import Shadow as Rule
from steelyard.domain.traffic import BUCKETS
from steelyard.settings import Settings
from steelyard_serving.audit import ANSWER, SHADOWS
from steelyard_serving.door_ports import LOOPBACK, door_port
from steelyard_serving.internal import INTERNAL, mark
from steelyard_serving.metrics import Metrics
from steelyard_serving.protocols.protocol import Headers

WAITING = 256
"""Copies that may wait."""
WAITING_BYTES = 8 * 2**20
"""Their bodies together."""
TIMEOUT_S = 5.0
STOP_S = 0.5
"""A replica that stops has a last window to write and no time for a shadow that hangs."""
COPIED = (
    "content-type", "inference-header-content-length", "traceparent", "x-steelyard-unit",
    "x-steelyard-lineage", "x-steelyard-generation", "x-steelyard-bucket",
)  # fmt: skip
"""The headers that go along: what the body is and who asked, but no key."""
log = logging.getLogger(__name__)


class Copy(NamedTuple):
    """One request, to be asked again: ``asked`` is the last word of its path."""

    version: int
    asked: str
    headers: dict[str, str]
    body: bytes


def _copy(
    version: int, asked: str, headers: Headers, body: bytes, prediction_id: str, our_mark: str
) -> Copy:
    kept = {name: headers[name] for name in COPIED if name in headers}
    kept |= {"x-steelyard-arm": "shadow", SHADOWS: prediction_id, INTERNAL: our_mark}
    return Copy(version, asked, kept, body)


class Shadow:
    """Sends copies of what one replica answered."""

    def __init__(self, settings: Settings, version: ModelVersion, metrics: Metrics) -> None:
        self._version = version
        self._metrics = metrics
        self._mark = mark(settings)
        self._copies: queue.Queue[Copy | None] = queue.Queue(WAITING)
        self._bytes = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._settings = settings
        self._complaint = ""

    def offer(
        self, rules: Sequence[Rule], asked: str, headers: Headers, body: bytes, prediction_id: str
    ) -> None:
        """Copy a request that was answered, for every rule that it and its bucket fall under.

        ``rules`` are ``snapshot.shadows`` of the model; ``body`` is the request's, decompressed.
        Never waits and never raises. Only what the edge gave to the rule's arm is copied, so that
        a pair compares two versions of one split and no copy is copied again.
        """
        for rule in rules:
            if rule.of != headers.get("x-steelyard-arm") or rule.version == self._version.version:
                continue
            if sampled(headers, rule.share_bp):
                self._put(_copy(rule.version, asked, headers, body, prediction_id, self._mark))

    def _put(self, copy: Copy) -> None:
        with self._lock:
            if self._bytes + len(copy.body) > WAITING_BYTES or self._copies.full():
                self._metrics.shadowed("dropped")
                return
            self._bytes += len(copy.body)
            self._copies.put_nowait(copy)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread after the copy that it sends now; what still waits is dropped."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            while not self._copies.empty():
                self._copies.get_nowait()
                self._metrics.shadowed("dropped")
            self._bytes = 0
            self._copies.put_nowait(None)
        thread.join(STOP_S)

    def _run(self) -> None:
        wires: dict[int, _Wire] = {}
        while (copy := self._copies.get()) is not None:
            failure = self._sent(copy, wires)
            self._metrics.shadowed("failed" if failure else "sent")
            self._complain(failure)
            with self._lock:
                self._bytes = max(0, self._bytes - len(copy.body))
        for wire in wires.values():
            wire.close()

    def _sent(self, copy: Copy, wires: dict[int, "_Wire"]) -> str:
        """Ask the shadow's replicas at their door; why that failed."""
        model = self._version.model
        port = door_port(self._settings, model, copy.version)
        if port is None:
            return f"{model}/{copy.version} has no replica here"
        if port not in wires:
            wires[port] = _Wire(port)
        return wires[port].ask(f"/v/{model}/{copy.version}/{copy.asked}", copy)

    def _complain(self, failure: str) -> None:
        """Say it once, and again only after it was well or if something else is wrong."""
        if failure and failure != self._complaint:
            log.warning("a copy for the shadow of %s failed: %s", self._version.model, failure)
        self._complaint = failure


class _Wire:
    """One connection to a version's door, opened again when it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, path: str, copy: Copy) -> str:
        """Send one copy and read its answer away; why it failed, empty when a replica answered."""
        again = self._connection is not None  # one that idled may have been closed meanwhile
        failure = self._once(path, copy)
        return self._once(path, copy) if failure and again else failure

    def _once(self, path: str, copy: Copy) -> str:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(LOOPBACK, self._port, TIMEOUT_S)
        try:
            self._connection.request("POST", path, copy.body, copy.headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return f"{type(error).__name__}: {error}"
        if response.getheader(ANSWER) is None:
            return f"no replica answered, HTTP {response.status}"
        return ""

    def close(self) -> None:
        """Close it; the next copy opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def sampled(headers: Headers, share_bp: int) -> bool:
    """Whether a request's bucket is in the share: the same unit always is, or never.

    The share is the highest buckets, because canaries take the lowest away from stable first.

    >>> sampled({"x-steelyard-bucket": "9000"}, 1000), sampled({"x-steelyard-bucket": "8999"}, 1000)
    (True, False)
    """
    bucket = headers.get("x-steelyard-bucket", "")
    return len(bucket) < 6 and bucket.isdecimal() and int(bucket) >= BUCKETS - share_bp
