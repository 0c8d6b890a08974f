"""Load: as fast as it goes, by wrk over some connections, or at a rate, by a schedule of ours.

wrk waits for an answer before it asks again, so a slow server is asked less and looks better than
it is. ``at_rate`` asks when the schedule says so, whatever was answered, and counts from then.
"""

import random
import selectors
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

SEED = 7
SCRIPT = """\
local file = io.open("BODY", "rb")
wrk.method = "POST"
wrk.body = file:read("*all")
HEADERS
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("FOUND %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a contender answers for one network, how it is asked, and how its answer is read."""

    contender: str
    network: str
    url: str
    body: bytes
    read: Callable[[Any], list[float]]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> dict[str, str]:
        """All headers of a request."""
        return {"content-type": "application/json", **self.headers}


@dataclass(frozen=True, slots=True)
class Found:
    """Good answers a second, quantiles in milliseconds, and answers that were none."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def asked(target: Target, timeout_s: float = 10.0) -> bytes:
    """One answer; raises what urllib raises when it is no good one."""
    request = Request(target.url, target.body, target.head)
    with urlopen(request, timeout=timeout_s) as answer:
        body: bytes = answer.read()
        return body


def full(target: Target, connections: int, seconds: int) -> Found:
    """As fast as wrk on one thread asks; RuntimeError with its words when it found nothing."""
    with tempfile.TemporaryDirectory() as name:
        body, script = Path(name) / "body", Path(name) / "ask.lua"
        body.write_bytes(target.body)
        headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in target.head.items())
        script.write_text(SCRIPT.replace("BODY", str(body)).replace("HEADERS", headers))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
                   "-s", str(script), target.url]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("FOUND"):
            count, microseconds, refused, broken, p50, p99 = map(int, line.split()[1:])
            good = (count - refused) / (microseconds / 1e6)
            return Found(good, p50 / 1e3, p99 / 1e3, refused + broken)
    raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")


def check_wrk() -> None:
    """SystemExit with what to do when wrk is not there."""
    if shutil.which("wrk") is None:
        raise SystemExit("This needs wrk: `apt-get install wrk`, or see github.com/wg/wrk.")


def at_rate(target: Target, rate: float, seconds: float, connections: int = 64) -> Found:
    """Requests at random moments (Poisson), ``rate`` a second; latency is from those moments on."""
    draw, moments, now = random.Random(SEED), deque[float](), 0.0
    while (now := now + draw.expovariate(rate)) < seconds:
        moments.append(now)
    schedule = _Schedule(target, moments, connections)
    try:
        return schedule.run(seconds)
    finally:
        schedule.close()


class _Schedule:
    """Connections that stay open; a request that finds none idle waits, and its clock runs."""

    def __init__(self, target: Target, moments: deque[float], connections: int) -> None:
        self._request, self._moments = _request(target), moments
        place = urlsplit(target.url)
        self._selector = selectors.DefaultSelector()
        self._idle: list[socket.socket] = []
        for _ in range(connections):
            one = socket.create_connection((place.hostname, place.port), timeout=10)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ)
            self._idle.append(one)
        self._due: dict[socket.socket, float] = {}
        self._took: list[float] = []
        self._failed = 0

    def run(self, seconds: float) -> Found:
        """Ask by the schedule, wait for what is under way, and say how long each took."""
        started = time.perf_counter()
        while self._moments or self._due:
            now = time.perf_counter() - started
            while self._moments and self._moments[0] <= now and self._idle:
                one = self._idle.pop()
                self._due[one] = self._moments.popleft()
                one.sendall(self._request)
            ahead = self._moments[0] - now if self._moments and self._idle else 1.0
            for key, _ in self._selector.select(max(ahead, 0)):
                self._answered(key.fileobj, started)
        took = sorted(self._took)
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))] * 1e3
        return Found(len(took) / seconds, statistics.median(took) * 1e3, p99, self._failed)

    def _answered(self, one: Any, started: float) -> None:
        good = _is_good(one)
        due = self._due.pop(one)
        self._idle.append(one)
        if good:
            self._took.append(time.perf_counter() - started - due)
        else:
            self._failed += 1

    def close(self) -> None:
        """Close the connections."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def _request(target: Target) -> bytes:
    place = urlsplit(target.url)
    head = {"host": place.netloc, "content-length": str(len(target.body)), **target.head}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST {place.path} HTTP/1.1\r\n{lines}\r\n".encode() + target.body


def _is_good(one: socket.socket) -> bool:
    """Read one whole answer with a length; RuntimeError when the other side hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _part(one)
    head, _, body = data.partition(b"\r\n\r\n")
    missing = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(body)
    while missing > 0:
        missing -= len(_part(one))
    return head.startswith(b"HTTP/1.1 200 ")


def _part(one: socket.socket) -> bytes:
    part = one.recv(65536)
    if not part:
        raise RuntimeError("the server broke off")
    return part
