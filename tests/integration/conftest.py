"""One Ray for the whole run: starting a head costs seconds and a gigabyte."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from tests.free_ports import free_ports

from steelyard.bootstrap import Platform
from steelyard.settings import Settings
from steelyard_serving.environment import environment, prepare
from steelyard_serving.processes import ray_head

# A short path: Ray appends long socket names to it.
HOME = Path(tempfile.gettempdir()) / f"syt-{os.getpid()}"


def _free_range(length: int) -> int:
    """The first of ``length`` ports below the kernel's own range, none of them listening."""
    taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.laddr}
    start = 10_000 + (os.getpid() * length) % 20_000
    while taken & set(range(start, start + length)):
        start += length
    return start


def _settings() -> Settings:
    edge, grpc, ray_port, api, mlflow = free_ports(5)
    return Settings(
        home=HOME, edge_port=edge, grpc_port=grpc, ray_port=ray_port, api_port=api,
        mlflow_port=mlflow, serve_ports_from=_free_range(500), ray_cpus=8,
        meter_interval_s=0.5,
    )  # fmt: skip


SETTINGS = _settings()
# Ray and Ray Serve read these when they are imported, so they are set while tests are collected.
os.environ.update({k: v for k, v in environment(SETTINGS).items() if k.startswith("RAY_")})


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Settings]:
    """A running Ray head of our own; its settings say where (``local_ray_address``)."""
    prepare(SETTINGS)
    spec = ray_head(SETTINGS)
    log = (SETTINGS.log_dir / "ray.log").open("wb")
    process = subprocess.Popen(
        spec.command, env={**os.environ, **spec.environment}, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        _wait_for_port(process, SETTINGS.ray_port, spec.start_timeout_s)
        yield SETTINGS
    finally:
        _disconnect()
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
        _end(process, family)
        log.close()
        shutil.rmtree(HOME, ignore_errors=True)


def _wait_for_port(process: subprocess.Popen[bytes], port: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    text = (SETTINGS.log_dir / "ray.log").read_text(errors="replace")
    pytest.fail(f"Ray's head did not come up:\n{text[-3000:]}")


def _disconnect() -> None:
    import ray

    ray.shutdown()


def _end(process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    """Stop what we started, and only that: by id, politely first."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for one in alive:
        one.kill()
    psutil.wait_procs(alive, timeout=5)


@pytest.fixture(scope="session")
def untouched_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that nothing has happened in, to copy: quicker than making its databases."""
    home = tmp_path_factory.mktemp("untouched") / "home"
    platform = Platform(Settings(home=home))
    assert platform.registry.models() == [] and platform.rollouts.stable("m") is None
    platform.engine.dispose()
    return home
