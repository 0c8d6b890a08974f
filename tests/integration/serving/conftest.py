"""A small real model, its applications on the shared Ray, and an edge in front of them."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from starlette.requests import Request

from steelyard.domain.model_version import (
    ONNXRUNTIME,
    OPENVINO,
    FlopsProfile,
    ModelVersion,
    Signature,
    TensorSpec,
)
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.environment import prepare
from steelyard_serving.processes import edge as edge_process
from steelyard_serving.traffic_router import EdgeRouter

collect_ignore = ["triton_grpc_child.py"]  # must not be imported here
MODEL = "scale"
FORWARD_FLOP = 4
SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 4)),), outputs=(TensorSpec("y", "FP32", (-1, 4)),)
)


def make_served(folder: Path, version: int, runtime: str = ONNXRUNTIME) -> ServedVersion:
    """Version ``n`` multiplies by ``n``; the largest numbers overflow, so they get no answer."""
    factor = numpy_helper.from_array(np.array([version], np.float32), "factor")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [factor],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = proto.SerializeToString()
    onnx.checker.check_model(proto)
    path = folder / f"{MODEL}-{version}.onnx"
    path.write_bytes(data)
    return ServedVersion(
        ModelVersion(
            model=MODEL, version=version, run_id="run", source="test", artifact=path.name,
            sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), variant="fp32",
            relation="trained", signature=SIGNATURE, created_us=1,
            flops=FlopsProfile(FORWARD_FLOP, None, "by hand", 1.0), runtime=runtime,
        ),
        path,
    )  # fmt: skip


@pytest.fixture(scope="session")
def versions(ray_cluster: Settings) -> dict[int, ServedVersion]:
    """Versions of a model that multiplies by its version; the third is run by OpenVINO."""
    ray_cluster.cache_dir.mkdir(exist_ok=True)
    runtimes = {1: ONNXRUNTIME, 2: ONNXRUNTIME, 3: OPENVINO}
    return {n: make_served(ray_cluster.cache_dir, n, one) for n, one in runtimes.items()}


@pytest.fixture(scope="session")
def applications(ray_cluster: Settings, versions: dict[int, ServedVersion]) -> Iterator[Any]:
    """All versions served and ready."""
    from ray import serve

    from steelyard_serving.app import RayApplications

    applications = RayApplications(ray_cluster)
    for served in versions.values():
        applications.ensure(served)
    keys = {(MODEL, n) for n in versions}
    _wait(lambda: all(applications.states()[key].phase == "ready" for key in keys), 90)
    yield applications
    for model, version in keys:
        applications.remove(model, version)
    _wait(lambda: not applications.states(), 60)
    serve.shutdown()


class Client:
    """A client of the edge that keeps what it saw."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def call(
        self, method: str, path: str, body: bytes | None = None,
        headers: dict[str, str | bytes] | None = None,
    ) -> tuple[int, dict[str, str], Any]:  # fmt: skip
        """Status, headers in lower case, JSON body."""
        connection = HTTPConnection(self.settings.host, self.settings.edge_port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            data = response.read()
            told = {key.lower(): value for key, value in response.getheaders()}
            return response.status, told, orjson.loads(data) if data else None
        finally:
            connection.close()

    def infer(
        self, rows: list[list[float]], unit: str | None = None, path: str = f"/v2/models/{MODEL}"
    ) -> tuple[int, dict[str, str], Any]:
        """Infer some rows of four numbers."""
        tensor = {"name": "x", "shape": [len(rows), 4], "datatype": "FP32", "data": rows}
        headers: dict[str, str | bytes] = {} if unit is None else {"x-unit-id": unit.encode()}
        return self.call("POST", f"{path}/infer", orjson.dumps({"inputs": [tensor]}), headers)


class Edge:
    """The edge process, to be killed and started again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is live."""
        spec = edge_process(self._settings)
        with (self._settings.log_dir / "edge.log").open("ab") as log:
            self._process = subprocess.Popen(
                spec.command, env={**os.environ, **spec.environment}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        client = Client(self._settings)
        _wait(lambda: client.call("GET", "/v2/health/live")[0] == 200, 20)

    def kill(self) -> None:
        """As the supervisor or the kernel would: the whole group, at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def edge(ray_cluster: Settings) -> Iterator[Edge]:
    """A running edge."""
    process = Edge(ray_cluster)
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def client(edge: Edge, ray_cluster: Settings) -> Client:
    """A client of the running edge."""
    return Client(ray_cluster)


@pytest.fixture
def route(edge: Edge, ray_cluster: Settings) -> Callable[..., Route]:
    """Makes a route live, always under a later generation than before."""
    from steelyard_serving.traffic_router import EdgeRouter

    router = EdgeRouter(ray_cluster)

    def apply(weight_bp: int = 0, lineage: str = "r1") -> Route:
        made = Route(MODEL, 1, time.time_ns(), canary=2, weight_bp=weight_bp, lineage=lineage)
        router.apply({MODEL: made}, frozenset((MODEL, version) for version in (1, 2, 3)))
        return made

    return apply


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Replicas:
    """Ray Serve's place: the replicas of both versions behind one port, as it routes them."""

    def __init__(self, settings: Settings, served: dict[int, ServedVersion]) -> None:
        from steelyard_serving.deployment import Replica

        self._replicas = {
            f"/v/{one.version.name}": Replica(one, settings) for one in served.values()
        }
        config = uvicorn.Config(
            self._app,
            port=settings.serve_port,
            interface="asgi3",
            lifespan="off",
            log_level="warning",
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.02)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        replica = self._replicas[scope["path"].rpartition("/")[0]]
        response = await replica(Request(scope, receive))
        await response(scope, receive, send)

    def stop(self) -> None:
        """Let the last windows be written."""
        self._server.should_exit = True
        self._thread.join()
        for replica in self._replicas.values():
            replica.__del__()


@dataclass(frozen=True)
class Place:
    """An edge and what is behind it."""

    settings: Settings
    served: dict[int, ServedVersion]
    edge: Edge

    @property
    def address(self) -> str:
        """Host and port, for clients."""
        return f"{self.settings.host}:{self.settings.edge_port}"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Version 1 takes all traffic of the model, which is the default one; version 2 is there."""
    home = Path(tempfile.mkdtemp(prefix="syp-"))
    edge_port, serve_port, grpc_port = _ports(3)
    settings = Settings(
        home=home, edge_port=edge_port, serve_port=serve_port, grpc_port=grpc_port,
        default_model=MODEL, body_limit_bytes=256 * 1024, meter_interval_s=2.0,
    )  # fmt: skip
    prepare(settings)
    served = {n: make_served(home, n) for n in (1, 2)}
    edge = Edge(settings)
    edge.start()
    replicas = Replicas(settings, served)
    route = Route(MODEL, stable=1, generation=1, canary=2, lineage="r1")
    EdgeRouter(settings).apply({MODEL: route}, frozenset({(MODEL, 1), (MODEL, 2)}))
    yield Place(settings, served, edge)
    replicas.stop()
    edge.kill()
    shutil.rmtree(home)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, HTTPException, KeyError):
            pass
        if time.monotonic() > deadline:
            pytest.fail("the condition did not become true in time")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def wait() -> Callable[[Callable[[], bool], float], None]:
    """Poll a condition until it holds; the test fails at the deadline."""
    return _wait


@pytest.fixture
def facts(ray_cluster: Settings) -> Callable[[], list[dict[str, Any]]]:
    """Everything that producers have spooled so far."""

    def read() -> list[dict[str, Any]]:
        files = sorted(ray_cluster.spool_dir.glob("*.jsonl"))
        return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]

    return read
