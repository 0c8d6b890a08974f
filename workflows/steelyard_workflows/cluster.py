"""Which Ray a run uses: the platform's when it answers, else a local one for this run alone."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from steelyard.cli.output import note
from steelyard.domain.errors import Refused, Unavailable
from steelyard.settings import Settings
from steelyard_workflows.interrupts import deferred

ANSWER_WITHIN_S = 2.0


@contextmanager
def connected(settings: Settings, cpus: int) -> Iterator[None]:
    """A Ray connection with room for ``cpus``; a Ray that was started here is stopped here.

    A process that is connected already keeps its connection.

    Raises:
        Unavailable: the configured cluster does not answer.
        Refused: the cluster has fewer CPUs than the run reserves.
    """
    if ray.is_initialized():
        _require(cpus)
        yield
        return
    address = _address(settings)
    note(f"Ray: {address or 'a local one for this run'}")
    try:
        if address:
            _join(address)
        else:
            _start(settings)
        _require(cpus)
        yield
    finally:
        with deferred():
            ray.shutdown()


def _address(settings: Settings) -> str | None:
    host, _, port = settings.local_ray_address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN_S).close()
    except (OSError, ValueError) as error:
        if settings.ray_address:
            raise Unavailable(
                f"The Ray cluster at {settings.ray_address} does not answer: {error}.",
                "Start it, or leave ray_address empty for a local Ray.",
            ) from error
        return None
    return settings.local_ray_address


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise Unavailable(
            f"Ray at {address} did not accept the connection: {error}.",
            "Is it the same version of Ray, and is RAY_AUTH_TOKEN_PATH its token?",
        ) from error


def _start(settings: Settings) -> None:
    settings.ray_temp_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ray.init(
        num_cpus=settings.ray_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(settings.ray_temp_dir),
    )


def _require(cpus: int) -> None:
    total = int(ray.cluster_resources().get("CPU", 0))
    if total < cpus:
        raise Refused(
            f"The run reserves {cpus} CPUs, the Ray cluster has {total}.",
            "Lower scaling.workers or scaling.cpus_per_worker, or raise ray_cpus.",
        )
    free = int(ray.available_resources().get("CPU", 0))
    if free < cpus:
        note(f"Waiting for {cpus} CPUs: {free} of {total} are free")
