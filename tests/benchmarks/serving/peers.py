"""The peers: each in a virtual environment of its own, one worker, its own smallest server file.

Everything that they do not ask for stays at their default. Ray Serve is that of our environment.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from load import Target
from networks import INPUT, OUTPUT, Network
from processes import free_port, free_range, running, wait_for

SERVERS = Path(__file__).parent / "servers"
START_S = 90.0
SETTLE_S = 5.0
"""After the first answer Ray still starts workers in reserve."""
PINS: Mapping[str, tuple[str, ...]] = {
    "litserve": ("litserve==0.2.19", "onnxruntime==1.31.1"),
    # 1.4.40 asks for a certifi that was not to be had when these were pinned.
    "bentoml": ("bentoml==1.4.39", "onnxruntime==1.31.1"),
    # Its worker processes do not start with a later uvloop.
    "mlserver": ("mlserver==1.7.1", "onnxruntime==1.31.1", "uvloop==0.21.0"),
    "mlflow": ("mlflow==3.17.2", "onnx==1.23.2", "onnxruntime==1.31.1"),
}
Expected = Mapping[str, Sequence[float]]
"""What onnxruntime answers for each network."""


@dataclass(frozen=True, slots=True)
class Place:
    """The environment's folder, and a folder for what a server wants to have on the disk."""

    venv: Path
    folder: Path

    def tool(self, name: str) -> str:
        """A program of the environment."""
        return str(self.venv / "bin" / name)


def prepare(cache: Path) -> None:
    """Make the environments that are not there; minutes of download the first time."""
    for name, pins in PINS.items():
        folder = cache / name
        stamp = folder / ".pins"
        if stamp.exists() and stamp.read_text() == " ".join(pins):
            continue
        print(f"Installing {' '.join(pins)} into {folder} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet",
               "--disable-pip-version-check", *pins]  # fmt: skip
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
        stamp.write_text(" ".join(pins))


def _simple(network: Network) -> Any:
    return {"input": network.nested()}


def _tensor(network: Network) -> Any:
    """As the Open Inference Protocol asks."""
    values = {"name": INPUT, "shape": network.shape, "datatype": "FP32", "data": network.flat()}
    return {"inputs": [values]}


def open_inference(network: Network) -> bytes:
    """The body of a request in the Open Inference Protocol."""
    return _document(_tensor(network))


def first_output(answer: Any) -> list[float]:
    """The numbers in an answer of the Open Inference Protocol."""
    values: list[float] = answer["outputs"][0]["data"]
    return values


def _document(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _litserve(place: Place, network: Network, port: int) -> list[str]:
    return [place.tool("python"), str(SERVERS / "litserve_server.py"), str(network.file), str(port)]


def _bentoml(place: Place, _: Network, port: int) -> list[str]:
    return [place.tool("bentoml"), "serve", "bento_server:Onnx", "--working-dir", str(SERVERS),
            "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip


def _mlserver(place: Place, network: Network, port: int) -> list[str]:
    """Without a worker process, which makes it faster here than its default of one."""
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
                "metrics_port": free_port(), "debug": False, "parallel_workers": 0}  # fmt: skip
    (place.folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": network.name, "implementation": "mlserver_runtime.OnnxRuntime",
             "parameters": {"uri": str(network.file)}}  # fmt: skip
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return [place.tool("mlserver"), "start", str(place.folder)]


def _mlflow(place: Place, network: Network, port: int) -> list[str]:
    into = place.venv / f"model-{network.name}"
    if not into.exists():
        subprocess.run(
            [place.tool("python"), str(SERVERS / "mlflow_model.py"), str(network.file), str(into)],
            check=True, capture_output=True,
        )  # fmt: skip
    return [place.tool("mlflow"), "models", "serve", "-m", str(into), "--env-manager", "local",
            "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """How one peer is started for a network, where and how it is asked, how its answer reads.

    ``name`` is that of its environment, ``path`` may hold the network's name.
    """

    name: str
    label: str
    command: Callable[[Place, Network, int], list[str]]
    path: str
    body: Callable[[Network], Any]
    read: Callable[[Any], list[float]]

    def version(self) -> str:
        """The pinned version."""
        return PINS[self.name][0].partition("==")[2]


PEERS = (
    Peer("litserve", "LitServe", _litserve, "/predict", _simple, lambda told: told["output"][0]),
    Peer("bentoml", "BentoML", _bentoml, "/predict", _simple, lambda told: told[0]),
    Peer("mlserver", "MLServer", _mlserver, "/v2/models/{}/infer", _tensor, first_output),
    Peer("mlflow", "mlflow models serve", _mlflow, "/invocations",
         lambda network: {"inputs": {INPUT: network.nested()}},
         lambda told: told["predictions"][OUTPUT][0]),
)  # fmt: skip


@contextmanager
def peer(one: Peer, cache: Path, network: Network, expected: Expected) -> Iterator[list[Target]]:
    """A peer's server of one network, up and right."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        place = Place(cache / one.name, Path(name))
        target = Target(
            one.label, network.name, f"http://127.0.0.1:{port}{one.path.format(network.name)}",
            _document(one.body(network)), one.read,
        )  # fmt: skip
        variables = _variables(place, network)
        command = one.command(place, network, port)
        with running(command, cache / f"{one.name}.server.log", variables) as process:
            wait_for(target, expected[network.name], START_S, process)
            yield [target]


def _variables(place: Place, network: Network) -> dict[str, str]:
    """The environment's own programs first; the server's file can be imported; nobody is told."""
    return {
        "PATH": f"{place.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SERVERS),
        "FILE": str(network.file),
        "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }


RAY_LABEL, BARE = "Ray Serve, defaults", "bare handler"
TUNED = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
    "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1",
}
"""Ray Serve's fast way: its HAProxy straight to the replicas."""


@contextmanager
def tuned_ray(cache: Path, served: Sequence[Network], expected: Expected) -> Iterator[list[Target]]:
    """A bare handler on a Ray of its own that is set up to be fast."""
    first = free_range(500)
    ports = {
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": first,
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": first + 1,
        "RAY_SERVE_HAPROXY_METRICS_PORT": first + 2,
        "RAY_SERVE_HAPROXY_STATS_PORT": first + 3,
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": first + 20,
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": first + 219,
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": first + 220,
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": first + 419,
    }
    variables = {**TUNED, **{name: str(port) for name, port in ports.items()}}
    port = free_port()
    targets = [
        Target(BARE, one.name, f"http://127.0.0.1:{port}/{one.name}", open_inference(one),
               first_output)
        for one in served
    ]  # fmt: skip
    with _ray("bare_server.py", port, cache, served, expected, targets, variables) as found:
        yield found


@contextmanager
def plain_ray(cache: Path, served: Sequence[Network], expected: Expected) -> Iterator[list[Target]]:
    """Ray Serve as it comes, on a Ray of its own: both networks, one replica each."""
    port = free_port()
    targets = [
        Target(RAY_LABEL, one.name, f"http://127.0.0.1:{port}/{one.name}",
               _document(_simple(one)), lambda told: told["output"][0])
        for one in served
    ]  # fmt: skip
    with _ray("ray_server.py", port, cache, served, expected, targets, {}) as found:
        yield found


@contextmanager
def _ray(
    script: str, port: int, cache: Path, served: Sequence[Network], expected: Expected,
    targets: list[Target], variables: Mapping[str, str],
) -> Iterator[list[Target]]:  # fmt: skip
    """A server on a Ray of its own, up and right."""
    with tempfile.TemporaryDirectory(prefix="sybr-") as name:
        command = [sys.executable, str(SERVERS / script), str(port), name,
                   *(f"{one.name}={one.file}" for one in served)]  # fmt: skip
        environment = {"RAY_USAGE_STATS_ENABLED": "0", **variables}
        with running(command, cache / f"{script}.log", environment) as process:
            for target in targets:
                wait_for(target, expected[target.network], START_S, process)
            time.sleep(SETTLE_S)
            yield targets


def ray_version() -> str:
    """The version in our own environment."""
    return version("ray")
