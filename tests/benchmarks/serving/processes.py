"""Servers as processes: started, awaited until they answer rightly, ended with their children."""

import json
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import psutil
from load import Target, asked

TOLERANCE = 1e-4


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def free_range(length: int) -> int:
    """The first of ``length`` ports below the kernel's own range, none of them listening."""
    taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.laddr}
    start = 10_000 + (os.getpid() * length) % 20_000
    while taken & set(range(start, start + length)):
        start += length
    return start


def plain_environment() -> dict[str, str]:
    """This process's variables without those that would change a server: Ray's and ours."""
    return {
        key: value for key, value in os.environ.items()
        if not key.startswith(("RAY_", "STEELYARD_", "MLFLOW_", "PYTHON"))
    }  # fmt: skip


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own; it and all that it started end with the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**plain_environment(), **(environment or {})}, stdout=file,
            stderr=file, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    below: list[psutil.Process] = []
    if process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for one in psutil.wait_procs(below, timeout=3)[1]:
        one.kill()
    psutil.wait_procs(below, timeout=3)


def wait_for(
    target: Target, expected: Sequence[float], seconds: float,
    process: subprocess.Popen[bytes] | None = None,
) -> None:  # fmt: skip
    """Wait until it answers, and compare its answer with the one that onnxruntime gives.

    Raises:
        RuntimeError: it ended, or did not answer in time, or answered something else.
    """
    deadline, why = time.monotonic() + seconds, "no answer"
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{target.contender} ended with {process.returncode}")
        try:
            body = asked(target)
        except (URLError, OSError) as error:
            why = str(error)
            time.sleep(0.1)
            continue
        found = target.read(json.loads(body))
        if not all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
                   for a, b in zip(found, expected, strict=True)):  # fmt: skip
            raise RuntimeError(f"{target.contender} answers {found}, onnxruntime {expected}")
        return
    raise RuntimeError(f"{target.contender} does not answer within {seconds:.0f} s: {why}")
