"""Which Ray a run uses: the platform's when it answers, else a local one for this run alone.

Workers import a user's recipe from the folder that ``steelyard`` was started in. On our own Ray,
which is this machine, Ray hands them the folder's path; to a configured cluster the folder is
uploaded, without what Git ignores, ``NOT_UPLOADED`` and ``SECRETS``. In a Ray job the folder is
there already: workers inherit it from the job.
"""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch

from steelyard.cli.output import note
from steelyard.domain.errors import Refused, Unavailable
from steelyard.settings import Settings
from steelyard_workflows.environment import RAY_JOB
from steelyard_workflows.interrupts import deferred, sigterm_interrupts
from steelyard_workflows.workflow import Scaling, Workflow

ANSWER_WITHIN_S = 2.0
NOT_UPLOADED = (".git", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", "mlruns")
"""What no worker needs of the user's folder, and what would make its upload large."""
SECRETS = (".env", ".env.*", "*.pem", "*.key", ".netrc", ".pypirc", ".ssh", ".aws", "auth_token")
"""What may hold a secret: everybody on the cluster could read it."""


@contextmanager
def connected(settings: Settings, workflow: Workflow) -> Iterator[None]:
    """A Ray connection with room for a workflow; a Ray that was started here is stopped here.

    A process that is connected already keeps its connection.

    Raises:
        Unavailable: the configured cluster does not answer.
        Refused: the cluster has fewer CPUs or GPUs than the run reserves, or the user's folder
            is too large to be uploaded.
    """
    scaling = workflow.scaling
    if ray.is_initialized():
        _require(scaling, ray.cluster_resources())
        yield
        return
    address = _address(settings)
    note(f"Ray: {address or 'a local one for this run'}")
    try:
        if address:
            _join(address, _runtime_env(settings, workflow))
            _require(scaling, ray.cluster_resources())
        else:
            _require(scaling, _local(settings))
            _start(settings)
        _tell_of_waiting(scaling)
        with sigterm_interrupts():  # here: Ray sets a handler of its own when it connects
            yield
    finally:
        with deferred():
            ray.shutdown()


def check_room(settings: Settings, workflow: Workflow) -> None:
    """Ask without starting anything: has the Ray that a run would start here room for it?

    A Ray that answers is asked when the run joins it.

    Raises:
        Unavailable: the configured cluster does not answer.
        Refused: the local Ray would have fewer CPUs or GPUs than the run reserves.
    """
    if _address(settings) is None:
        _require(workflow.scaling, _local(settings))


def _local(settings: Settings) -> dict[str, float]:
    """What a Ray that is started here has."""
    return {"CPU": settings.ray_cpus, "GPU": torch.cuda.device_count()}


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


def _runtime_env(settings: Settings, workflow: Workflow) -> dict[str, Any] | None:
    """The upload of the user's folder: for a recipe of the user's own on a configured cluster."""
    if not settings.ray_address or ":" not in workflow.recipe or RAY_JOB in os.environ:
        return None
    return {"working_dir": str(Path.cwd()), "excludes": [*NOT_UPLOADED, *SECRETS]}


def _join(address: str, runtime_env: dict[str, Any] | None) -> None:
    try:
        ray.init(address=address, runtime_env=runtime_env, log_to_driver=False,
                 logging_level=logging.ERROR)  # fmt: skip
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise Refused(
            f"The folder {Path.cwd()} could not be uploaded to the cluster: {error}",
            "Start from a folder with the code alone, or name the rest in its .gitignore.",
        ) from error
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


def _require(scaling: Scaling, has: Mapping[str, float]) -> None:
    cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    if cpus < scaling.cpus:
        raise Refused(
            f"The run reserves {scaling.cpus} CPUs, the Ray cluster has {cpus}.",
            "Lower scaling.workers or scaling.cpus_per_worker, or raise ray_cpus.",
        )
    wanted = scaling.workers * scaling.gpus_per_worker
    if gpus < wanted:
        raise Refused(
            f"The run reserves {wanted} GPUs, the Ray cluster has {gpus}.",
            "Lower scaling.workers or scaling.gpus_per_worker; 0 trains on CPUs.",
        )


def _tell_of_waiting(scaling: Scaling) -> None:
    total, free = (int(found.get("CPU", 0))
                   for found in (ray.cluster_resources(), ray.available_resources()))  # fmt: skip
    if free < scaling.cpus:
        note(f"Waiting for {scaling.cpus} CPUs: {free} of {total} are free")
