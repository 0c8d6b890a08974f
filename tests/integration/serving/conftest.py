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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.free_ports import free_ports

from steelyard.domain.model_version import (
    ONNXRUNTIME,
    OPENVINO,
    FlopsProfile,
    ModelVersion,
    Signature,
    TensorSpec,
)
from steelyard.domain.traffic import Route, Share, in_order
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.door_ports import open_door
from steelyard_serving.environment import prepare
from steelyard_serving.processes import edge as edge_process
from steelyard_serving.secret_files import private_dir
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
        shares = in_order([Share(2, 0, weight_bp)])
        made = Route(MODEL, 1, time.time_ns(), shares, lineage)
        router.apply({MODEL: made}, frozenset((MODEL, version) for version in (1, 2, 3)))
        return made

    return apply


AtDoor = Callable[[Settings, str, Iterable[int], int], None]


@pytest.fixture(scope="session")
def at_door() -> AtDoor:
    """Lets versions be answered at a port by somebody who is no replica."""

    def put(settings: Settings, model: str, versions: Iterable[int], port: int) -> None:
        folder = private_dir(settings.run_dir / "doors")
        for version in versions:
            (folder / f"{model}-v{version}").write_text(str(port), encoding="ascii")

    return put


class Replicas:
    """Both versions' replicas, with their doors, without Ray."""

    def __init__(self, settings: Settings, served: dict[int, ServedVersion]) -> None:
        from steelyard_serving.deployment import Replica

        self._replicas = [Replica(one, settings) for one in served.values()]

    def stop(self) -> None:
        """Let the last windows be written."""
        for replica in self._replicas:
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


@pytest.fixture(scope="module", params=["haproxy", "python"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Version 1 takes all traffic of the model, which is the default one; version 2 is there."""
    home = Path(tempfile.mkdtemp(prefix="syp-"))
    edge_port, grpc_port = free_ports(2)
    settings = Settings(
        home=home, edge=request.param, edge_port=edge_port, grpc_port=grpc_port,
        default_model=MODEL, body_limit_bytes=256 * 1024, meter_interval_s=2.0,
    )  # fmt: skip
    prepare(settings)
    served = {n: make_served(home, n) for n in (1, 2)}
    edge = Edge(settings)
    edge.start()
    replicas = Replicas(settings, served)
    route = Route(MODEL, stable=1, generation=1, lineage="r1")
    EdgeRouter(settings).apply({MODEL: route}, frozenset({(MODEL, 1), (MODEL, 2)}))
    yield Place(settings, served, edge)
    replicas.stop()
    edge.kill()
    shutil.rmtree(home)


TOLD = ("arm", "bucket", "generation", "lineage", "unit", "arrived-us")


class Versions:
    """The replicas' place: every version answers what it was told, or as ``says`` has it.

    ``says`` maps a version to a status; at ``CUT`` the connection ends without an answer.
    """

    CUT = 0

    def __init__(self, settings: Settings) -> None:
        self.says: dict[int, int] = {}
        self.asked: list[int] = []
        self._settings = settings
        self._servers: dict[int, tuple[_Quiet, threading.Thread]] = {}
        self.open(*range(1, 6))

    def open(self, *versions: int) -> None:
        """Let those answer that do not."""
        handler = type("Handler", (_Versioned,), {"versions": self})
        for version in set(versions) - self._servers.keys():
            server = _Quiet(("127.0.0.1", 0), handler, bind_and_activate=False)
            server.socket.close()
            server.socket = open_door(self._settings, "m", version)
            server.server_activate()
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            self._servers[version] = (server, thread)

    def close(self, *versions: int) -> None:
        """Let connections to those be refused."""
        for version in versions:
            server, thread = self._servers.pop(version)
            server.shutdown()
            thread.join()
            server.server_close()
            server.cut()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._open.append(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        """End what is still open, as a process that ends does."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """The edge drops connections that it does not need any more."""


class _Versioned(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    versions: Versions

    def do_POST(self) -> None:
        """Answer as the version's entry says."""
        self.rfile.read(int(self.headers["content-length"]))
        version = int(self.path.split("/")[3])
        self.versions.asked.append(version)
        how = self.versions.says.get(version, 200)
        if how == Versions.CUT:
            self.close_connection = True
            return
        told = {name: self.headers[f"x-steelyard-{name}"] for name in TOLD}
        body = orjson.dumps({"version": version, **told})
        self.send_response(how)
        self.send_header("x-steelyard-answer", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """As a POST without a body."""
        self.headers.add_header("content-length", "0")
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Chosen:
    """An edge of its own before versions that say what they were told."""

    settings: Settings
    versions: Versions
    router: EdgeRouter
    generation: int = 0

    def route(self, *shares: Share) -> Route:
        """Make a table live that nobody asked under before; versions 1 to 5 are deployed."""
        self.generation += 1
        made = Route("m", 1, self.generation, shares, "r1")
        self.router.apply({"m": made}, frozenset(("m", number) for number in range(1, 6)))
        return made

    def ask(
        self, headers: dict[str, str | bytes] | None = None, body: bytes = b"{}",
        path: str = "/v2/models/m/infer",
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and document."""
        status, _, document = Client(self.settings).call("POST", path, body, headers)
        return status, document


@pytest.fixture(scope="module", params=["haproxy", "python"])
def chosen(request: pytest.FixtureRequest) -> Iterator[Chosen]:
    """Either edge's choice, seen by those that it chooses."""
    home = Path(tempfile.mkdtemp(prefix="syc-"))
    (edge_port,) = free_ports(1)
    settings = Settings(home=home, edge=request.param, edge_port=edge_port)
    prepare(settings)
    process = Edge(settings)
    process.start()
    versions = Versions(settings)
    yield Chosen(settings, versions, EdgeRouter(settings))
    process.kill()
    versions.close(*range(1, 6))
    shutil.rmtree(home)


in_c = pytest.mark.parametrize("chosen", ["haproxy"], indirect=True)
"""For what the edge in Python does with the very rule that the edge is held against."""


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
