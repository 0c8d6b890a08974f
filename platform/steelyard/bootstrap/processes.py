"""The processes of ``steelyard up``, and their owner."""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from steelyard.bootstrap.power import power_meter
from steelyard.domain.supervision import Probe, ProcessSpec
from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.adapters.supervisor import Supervisor


def supervisor(settings: Settings) -> "Supervisor":
    """The owner of the processes that ``steelyard up`` starts."""
    from steelyard.adapters.supervisor import Supervisor

    return Supervisor(settings.home, settings.run_dir, settings.log_dir)


def check_ports(specs: "Sequence[ProcessSpec]") -> None:
    """Refuse to start on ports that are in use."""
    from steelyard.adapters.supervisor import check_ports

    check_ports(specs)


def process_specs(settings: Settings) -> "list[ProcessSpec]":
    """Every process of the platform: ours, and what installed packages contribute."""
    specs = [*node_meter_process(settings), api_process(settings)]
    if not settings.mlflow_uri:
        specs.append(mlflow_process(settings))
    for point in sorted(entry_points(group="steelyard.processes"), key=lambda p: p.name):
        specs += point.load()(settings)
    return specs


def node_meter_process(settings: Settings) -> list[ProcessSpec]:
    """The energy meter, where there is something to read; first, so that it stops last."""
    if not power_meter(settings).boundary:
        return []
    command = (sys.executable, "-m", "steelyard.node_meter")
    return [ProcessSpec("node_meter", command, settings.as_environment())]


def api_process(settings: Settings) -> ProcessSpec:
    """The dashboard and its API."""
    return ProcessSpec(
        name="api",
        command=(sys.executable, "-m", "steelyard.api"),
        environment=settings.as_environment(),
        probe=Probe(url=f"{settings.api_url}/health"),
        ports={"api_port": (settings.host, settings.api_port)},
    )


def mlflow_process(settings: Settings) -> ProcessSpec:
    """MLflow's web pages over the embedded registry, without its job runners."""
    return ProcessSpec(
        name="mlflow",
        command=(
            sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1",
            "--port", str(settings.mlflow_port), "--backend-store-uri", settings.registry_uri,
            "--artifacts-destination", settings.artifact_root.as_uri(),
        ),
        environment={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        probe=Probe(url=f"http://127.0.0.1:{settings.mlflow_port}/health"),
        ports={"mlflow_port": ("127.0.0.1", settings.mlflow_port)},
    )  # fmt: skip
