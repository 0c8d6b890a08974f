"""What metering costs a served model on the whole way: client, edge, Ray Serve, replica.

    python tests/benchmarks/metering_http.py

One replica holds two ingresses, one that counts and records and one that does neither; a header
says which of them answers. So both share process, memory and connections: two replicas of one
kind differ by more than what is sought. They answer in short turns, so that what else happens on
the machine happens to both. A pair is as many requests of each kind as a flush has records; the
flush falls into the middle of a metered turn, so that metering pays for all that it causes.

The ratio of requests a second is what clients see, and as noisy as the machine. The processor time
that the replica spends on a request is the figure to trust. The client is this process: raw
sockets that stay open, each with one request under way.
"""

import argparse
import os
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import orjson
import psutil
from starlette.requests import Request
from starlette.responses import Response

from steelyard.adapters.supervisor import answers
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard.domain.supervision import ProcessSpec
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.audit import Answered
from steelyard_serving.deployment import Replica, checks
from steelyard_serving.environment import environment, prepare, proxy_dir
from steelyard_serving.head import end_strays
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import RECORDS_TO_FLUSH
from steelyard_serving.processes import edge, ray_head
from steelyard_serving.replica import OnnxModel

WIDTH, CLASSES = 64, 10
CONNECTIONS, DRAWS, SEED = 8, 10_000, 7
TURN = 250
"""Requests in a row of one kind: a quarter of a second."""

MODEL, SWITCH = "linear", "x-bench-metering"


class Unmetered(Ingress):
    """Answers like its parent; counts nothing and makes no record."""

    def _count(self, answered: Answered) -> None:
        """Count nothing."""


class Rig(Replica):
    """A replica of which each request says whether it is to be metered."""

    def __init__(self, served: ServedVersion, settings: Settings) -> None:
        super().__init__(served, settings)
        model = OnnxModel(served.version, served.artifact)
        off = Unmetered(model, self._meter, settings.body_limit_bytes, checks(served, settings))
        self._ingresses = {"on": self._ingress, "off": off}

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request in the way that it asks for."""
        self._ingress = self._ingresses[request.headers.get(SWITCH, "on")]
        return await super().__call__(request)


@dataclass(frozen=True)
class Cost:
    """What some requests took of the wall clock, and of the replica's processor time."""

    seconds: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.cpu_s + other.cpu_s)


class Client:
    """Open connections to the edge, and an eye on the replica's process."""

    def __init__(self, address: tuple[str, int], pid: int) -> None:
        self._pid = pid
        self._waiting = selectors.DefaultSelector()
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._waiting.register(connection, selectors.EVENT_READ, connection)

    def ask(self, metering: str, count: int = TURN) -> Cost:
        """Ask ``count`` times, with metering ``on`` or ``off``."""
        asking = request(metering)
        cpu, start = cpu_ns(self._pid), time.perf_counter()
        for key in self._waiting.get_map().values():
            key.data.sendall(asking)
        asked, answered = CONNECTIONS, 0
        while answered < count:
            for key, _ in self._waiting.select():
                answer_of(key.data)
                answered += 1
                if asked < count:
                    key.data.sendall(asking)
                    asked += 1
        return Cost(time.perf_counter() - start, (cpu_ns(self._pid) - cpu) / 1e9)

    def pair(self) -> dict[str, Cost]:
        """As many requests of each kind as a flush has records, in turns: off on, on off."""
        costs = {"on": Cost(), "off": Cost()}
        for number in range(RECORDS_TO_FLUSH // TURN):
            for metering in ("on", "off") if number % 2 else ("off", "on"):
                costs[metering] += self.ask(metering)
        return costs

    def close(self) -> None:
        """Close the connections."""
        for key in list(self._waiting.get_map().values()):
            key.data.close()
        self._waiting.close()


def cpu_ns(pid: int) -> int:
    """Processor time of a process, all its threads: Linux' clock with the id of the process."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def request(metering: str) -> bytes:
    """One inference request, all its bytes."""
    values = [n / WIDTH for n in range(WIDTH)]
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": values}
    body = orjson.dumps({"inputs": [tensor]})
    head = (
        f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: bench\r\n{SWITCH}: {metering}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer_of(connection: socket.socket) -> bytes:
    """The body of a good answer; RuntimeError when it is anything else."""
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the edge answered {data.decode()}")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += received(connection)
    return body


def received(connection: socket.socket) -> bytes:
    """What has arrived; RuntimeError when the other side hung up."""
    part = connection.recv(65536)
    if not part:
        raise RuntimeError("the edge broke off")
    return part


def linear(folder: Path) -> ServedVersion:
    """A linear classifier of 64 numbers: hardly any inference beside which metering could hide."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> {MODEL} (float[n,{WIDTH}] x) '
        f"=> (float[n,{CLASSES}] y) {{ y = MatMul(x, w) }}"
    )
    weights = np.random.default_rng(SEED).standard_normal((WIDTH, CLASSES), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    data = proto.SerializeToString()
    onnx.checker.check_model(proto)
    path = folder / f"{MODEL}.onnx"
    path.write_bytes(data)
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, WIDTH)),), (TensorSpec("y", "FP32", (-1, CLASSES)),)
    )
    return ServedVersion(
        ModelVersion(
            MODEL, 1, "run", "bench", path.name, sha256(data).hexdigest(), len(data), "fp32",
            "trained", signature, 1,
        ),
        path,
    )  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def running(spec: ProcessSpec) -> Iterator[None]:
    """A process of the platform, up; it and all that it started end with the block."""
    process = subprocess.Popen(
        spec.command, env={**os.environ, **spec.environment}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + spec.start_timeout_s
        while not answers(spec.probe):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{spec.name} does not start")
            time.sleep(0.1)
        yield
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(spec.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
        for one in psutil.wait_procs(below, timeout=5)[1]:
            one.kill()


@contextmanager
def connected() -> Iterator[None]:
    """Leave Ray before its head ends: who is still connected then is ended, too."""
    import ray

    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def served(folder: Path) -> Iterator[Client]:
    """The rig on a Ray of its own behind an edge of its own."""
    edge_port, ray_port, serve_port = free_ports(3)
    settings = Settings(
        home=folder, edge_port=edge_port, ray_port=ray_port, serve_port=serve_port,
        serve_ports_from=20_000 + os.getpid() % 20 * 500, meter_interval_s=60.0,
    )  # fmt: skip
    # Ray reads its variables when it is imported, so it is imported below.
    os.environ.update(environment(settings))
    prepare(settings)
    try:
        with running(ray_head(settings)), running(edge(settings)), connected():
            deploy(settings, linear(folder))
            client = Client((settings.host, settings.edge_port), replica_pid())
            yield client
            client.close()
    finally:
        end_strays(settings)
        shutil.rmtree(proxy_dir(settings), ignore_errors=True)


def deploy(settings: Settings, version: ServedVersion) -> None:
    """Serve the rig as the platform serves a replica, and route its model's traffic there."""
    from ray import serve

    from steelyard_serving.app import RayApplications, application_name, deployment_of
    from steelyard_serving.traffic_router import EdgeRouter

    RayApplications(settings).states()  # connects to Ray and starts Ray Serve
    serve.run(
        deployment_of(Rig, version.version, settings).bind(version, settings),
        name=application_name(MODEL, 1),
        route_prefix=f"/v/{version.version.name}",
    )
    EdgeRouter(settings).apply({MODEL: Route(MODEL, 1, 1)}, frozenset({(MODEL, 1)}))


def replica_pid() -> int:
    """The replica's process, by the title that Ray gives it."""
    (pid,) = [
        one.pid for one in psutil.process_iter(["cmdline"])
        if " ".join(one.info["cmdline"] or ()).startswith(f"ray::ServeReplica:{MODEL}-v1")
    ]  # fmt: skip
    return pid


def main() -> None:
    """Measure pairs and print what they say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=30)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as client:
        client.pair()
        client.ask("on", TURN // 2)  # from now on, a flush begins in the middle of a turn
        show([client.pair() for _ in range(pairs)])


def show(pairs: list[dict[str, Cost]]) -> None:
    """Print both kinds' medians and the ratios of pairs."""
    for metering in ("on", "off"):
        rate = statistics.median(RECORDS_TO_FLUSH / one[metering].seconds for one in pairs)
        cpu = statistics.median(one[metering].cpu_s / RECORDS_TO_FLUSH for one in pairs)
        print(f"metering {metering:<3} {rate:>8,.0f} requests/s   "
              f"{cpu * 1e6:>7.1f} µs of the replica's processor time a request")  # fmt: skip
    ratio("requests/s, on / off", [one["off"].seconds / one["on"].seconds for one in pairs])
    ratio("processor time, on / off", [one["on"].cpu_s / one["off"].cpu_s for one in pairs])


def ratio(name: str, found: list[float]) -> None:
    """Print the median of ratios with a 95 % interval by bootstrap over pairs."""
    draws = np.random.default_rng(SEED).choice(found, (DRAWS, len(found)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    print(f"{name:<26} {statistics.median(found):.3f}   95 % [{low:.3f}, {high:.3f}]   "
          f"single pairs {min(found):.3f} to {max(found):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
