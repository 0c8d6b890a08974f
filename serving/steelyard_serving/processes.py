"""The data plane's processes, as the supervisor runs them: Ray, both doors, the controller."""

import sys

from steelyard.domain.supervision import Probe, ProcessSpec
from steelyard.settings import Settings
from steelyard_serving.edge.tls import check_certificate
from steelyard_serving.edge_kind import edge_kind
from steelyard_serving.environment import environment, prepare

LOOPBACK = "127.0.0.1"


def processes(settings: Settings) -> list[ProcessSpec]:
    """What has to run on this machine, with the folders and secrets that it needs made ready.

    Ray is left out when the settings name a cluster of somebody else's.
    """
    check_certificate(settings)
    prepare(settings)
    ours = [] if settings.ray_address else [ray_head(settings)]
    doors = [edge(settings), *([grpc_door(settings)] if settings.grpc_port else [])]
    return [*ours, *doors, controller(settings, after=[spec.name for spec in ours])]


def ray_head(settings: Settings) -> ProcessSpec:
    """Ray's head on loopback. What it knew dies with it; the controller deploys again from SQL."""
    options = {
        "--node-ip-address": LOOPBACK,
        "--port": settings.ray_port,
        "--num-cpus": settings.ray_cpus,
        "--num-gpus": 0,
        "--temp-dir": settings.ray_temp_dir,
        "--include-dashboard": "false",
        "--ray-client-server-port": settings.serve_ports_from + 4,
        "--dashboard-agent-listen-port": 0,
        "--dashboard-agent-grpc-port": 0,
        "--runtime-env-agent-port": 0,
        "--metrics-export-port": 0,
        "--min-worker-port": 0,
        "--max-worker-port": 0,
    }
    return ProcessSpec(
        name="ray",
        command=(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
                 "--disable-usage-stats", *(f"{key}={value}" for key, value in options.items())),
        environment=environment(settings),
        probe=Probe(address=(LOOPBACK, settings.ray_port)),
        ports={
            "ray_port": (LOOPBACK, settings.ray_port),
            "serve_ports_from": (LOOPBACK, settings.serve_ports_from),
        },
        start_timeout_s=90.0,
        stop_timeout_s=20.0,
    )  # fmt: skip


def edge(settings: Settings) -> ProcessSpec:
    """The public door: HAProxy, which renders its configuration first, or the edge in Python."""
    module = {"haproxy": "edge", "python": "python_edge"}[edge_kind(settings)]
    return ProcessSpec(
        name="edge",
        command=(sys.executable, "-m", f"steelyard_serving.{module}"),
        environment=settings.as_environment(),
        probe=Probe(url=f"{settings.edge_url}/v2/health/live"),
        ports={"edge_port": (settings.host, settings.edge_port)},
        start_timeout_s=20.0,
    )


def grpc_door(settings: Settings) -> ProcessSpec:
    """The public door for gRPC: asks the edge, so it knows nothing and may be restarted freely."""
    return ProcessSpec(
        name="grpc",
        command=(sys.executable, "-m", "steelyard_serving.open_inference_grpc"),
        # gRPC would write a line for each stranger that fails to shake hands.
        environment={**settings.as_environment(), "GRPC_VERBOSITY": "ERROR"},
        probe=Probe(address=(settings.host, settings.grpc_port)),
        after=("edge",),
        ports={"grpc_port": (settings.host, settings.grpc_port)},
        start_timeout_s=20.0,
    )


def controller(settings: Settings, after: list[str]) -> ProcessSpec:
    """The loop that makes the world agree with SQL."""
    return ProcessSpec(
        name="controller",
        command=(sys.executable, "-m", "steelyard_serving.controller"),
        environment={**environment(settings), "PYTHONUNBUFFERED": "1"},
        after=(*after, "edge"),
        stop_timeout_s=20.0,
    )
