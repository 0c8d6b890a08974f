"""A platform under load of which parts are killed: who is who among its processes, and waiting."""

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import TypeVar
from urllib.parse import urlsplit

import orjson
import psutil

from .conftest import Home
from .open_loop import Asked, Load

T = TypeVar("T")
BODY = orjson.dumps(
    {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.0] * 7 + [1.0]}]}
)
RATE = 50.0
"""Requests a second of an ordinary load."""
RAY_CONTROLLER = "ray::ServeController"
LARGE = 64 * 2**20
PIECE = b" " * 2**16
OVERRIDE = ("--override-gates", "made for these faults")


def until(what: str, found: Callable[[], T | None], seconds: float = 60) -> T:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return answer


def moment(load: Load, at_s: float) -> None:
    """Go on when the load is so old."""
    until("the moment", lambda: load.now_s >= at_s, at_s + 60)


def number_of_replicas(home: Home, model: str, count: int) -> None:
    """Go on when so many processes answer for the first version."""
    until(f"{count} replicas", lambda: len(replicas(home, model, 1)) == count, 180)


def units(number: int) -> Mapping[str, str]:
    """Each request is of another unit."""
    return {"x-unit-id": f"u{number}"}


def asked(home: Home, model: str) -> Asked:
    """How a model of eight numbers is asked at the platform's edge."""
    return Asked(f"{home.edge}/v2/models/{model}/infer", BODY, units)


def called(home: Home, words: str) -> list[psutil.Process]:
    """The platform's processes whose command line holds these words, the oldest first."""
    found = []
    for process in home.processes():
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.create_time())


def replicas(home: Home, model: str, version: int) -> list[psutil.Process]:
    """The processes that answer for a version."""
    return called(home, f"ray::ServeReplica:{model}-v{version}:")


def kill(process: psutil.Process) -> None:
    """Kill -9 of one process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def connected(edge: str) -> socket.socket:
    """A connection to the edge."""
    place = urlsplit(edge)
    return socket.create_connection((place.hostname, place.port), timeout=30)


def head(model: str, length: str) -> bytes:
    """The start of a request; ``length`` is the header that says how long it is."""
    return f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode()


def too_large(edge: str, model: str, length: str) -> bytes:
    """The start of what a body of 64 MiB is answered with, as much of it as is taken."""
    with connected(edge) as door, suppress(ConnectionError):
        door.sendall(head(model, length))
        with suppress(ConnectionError):
            if "chunked" in length:
                door.sendall(b"%x\r\n" % LARGE)
            for _ in range(LARGE // len(PIECE)):
                door.sendall(PIECE)
        return door.recv(12)
    return b"broken off"


def recorded(home: Home, model: str) -> dict[str, tuple[int, str]]:
    """The predictions on record of a model by id: version and digest."""
    with closing(sqlite3.connect(home.path / "ledger.db")) as database:
        rows = database.execute(
            "select prediction_id, version, sha256 from prediction where model = ?", (model,)
        )
        return {one: (version, digest) for one, version, digest in rows}


def turns_into(home: Home, model: str, what: Callable[[dict[str, object]], object]) -> None:
    """Wait until the model's newest rollout is what is said."""
    until("the rollout", lambda: what(home.ok("rollout", "status", model)), 90)
