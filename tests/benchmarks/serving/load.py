"""Load by wrk: as fast as it goes over some connections, or at a rate, by a schedule.

wrk waits for an answer before it asks again, so a slow server is asked less and looks better than
it is. ``at_rate`` has connections to spare: one that is free asks when the schedule says so,
whatever the others wait for.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

SPARE = 256
"""Connections for a schedule."""
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
SCHEDULE = """\
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } moment;
  int clock_gettime(int clock, moment *now);
]]
local MONOTONIC, at, due = 1, ffi.new("moment"), nil
math.randomseed(7)

function delay()
  ffi.C.clock_gettime(MONOTONIC, at)
  local now = tonumber(at.seconds) + tonumber(at.nanoseconds) / 1e9
  due = (due or now) - math.log(1 - math.random()) / RATE
  return math.max(0, math.floor((due - now) * 1000 + 0.5))
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
    return _wrk(target, connections, seconds)


def at_rate(target: Target, rate: float, seconds: int) -> Found:
    """Requests at random moments (Poisson), ``rate`` a second, to the millisecond that wrk counts.

    Latency is from the moment of asking on, which is the schedule's as long as a connection is
    free. RuntimeError as ``full``.
    """
    return _wrk(target, SPARE, seconds, SCHEDULE.replace("RATE", f"{rate:.3f}"))


def _wrk(target: Target, connections: int, seconds: int, more: str = "") -> Found:
    with tempfile.TemporaryDirectory() as name:
        body, script = Path(name) / "body", Path(name) / "ask.lua"
        body.write_bytes(target.body)
        headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in target.head.items())
        text = SCRIPT.replace("BODY", str(body)).replace("HEADERS", headers)
        script.write_text(text + more)
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
