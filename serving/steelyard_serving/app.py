"""Applications on Ray Serve: one application a version, named and routed by it."""

import hashlib
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ray
from pydantic import SecretStr
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, ProxyLocation
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, LoggingConfig

from steelyard import __version__
from steelyard.domain.errors import SteelyardError, Unavailable
from steelyard.domain.model_version import ModelVersion
from steelyard.ports.applications import ONE, ApplicationState, Replicas, ServedVersion
from steelyard.settings import Settings
from steelyard_serving.autoscaling import replicas_for
from steelyard_serving.deployment import Replica
from steelyard_serving.door_ports import forget_door
from steelyard_serving.probe import probe

NAME = re.compile(r"(?P<model>.+)-v(?P<version>[0-9]+)")
CALL_TIMEOUT_S = 20.0
Result = TypeVar("Result")
Key = tuple[str, int]


class RayApplications:
    """The port ``Applications`` on Ray Serve's public interface.

    Ray Serve holds the state; this object remembers only which versions it probed, the signatures
    it needs for that, and how many replicas it asked for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: str | None = None
        self._broken = False
        self._versions: dict[Key, ModelVersion] = {}
        self._proved: set[Key] = set()
        self._declared: dict[Key, Replicas] = {}

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """Start this version's application unless it exists with the same bytes; does not wait.

        A failed one is left as it is: the same bytes would fail again. ``remove`` it to retry.
        What was declared before this process began is declared again, which changes nothing.
        """
        version = served.version
        key = (version.model, version.version)
        self._versions[key] = version
        existing = self._overview().get(application_name(*key))
        if existing is not None and existing.status == ApplicationStatus.DELETING:
            return
        if existing is not None and deployment_name(version) in existing.deployments:
            if self._declared.get(key) == replicas:
                return
        else:
            self._proved.discard(key)
        self._call(lambda: self._deploy(served, replicas))
        self._declared[key] = replicas

    def remove(self, model: str, version: int) -> None:
        """Drain and stop a version's application; nothing happens when it is gone."""
        self._proved.discard((model, version))
        self._declared.pop((model, version), None)
        forget_door(self._settings, model, version)
        name = application_name(model, version)
        if name in self._overview():
            self._call(lambda: serve.delete(name, _blocking=False))

    def states(self) -> Mapping[Key, ApplicationState]:
        """All applications that exist. ``ready`` means that a real inference succeeded."""
        found: dict[Key, ApplicationState] = {}
        for name, overview in self._overview().items():
            match = NAME.fullmatch(name)
            if match:
                key = (match["model"], int(match["version"]))
                found[key] = self._state(key, overview)
        self._proved &= found.keys()
        return found

    def _state(self, key: Key, overview: ApplicationStatusOverview) -> ApplicationState:
        # While replicas are added or replaced, those that run go on answering.
        changing = overview.status == ApplicationStatus.DEPLOYING and self._has_replica(
            key, overview
        )
        if overview.status == ApplicationStatus.RUNNING or changing:
            return self._probed(key)
        self._proved.discard(key)
        reason = reason_of(overview)
        if overview.status == ApplicationStatus.DEPLOY_FAILED:
            return ApplicationState("failed", reason)
        if overview.status == ApplicationStatus.UNHEALTHY:
            return ApplicationState("unhealthy", reason)
        if overview.status == ApplicationStatus.DELETING:
            return ApplicationState("unhealthy", "it is being removed")
        return ApplicationState("starting", reason)

    def _has_replica(self, key: Key, overview: ApplicationStatusOverview) -> bool:
        version = self._versions.get(key)
        name = "" if version is None else deployment_name(version)
        deployment = overview.deployments.get(name)
        states = deployment.replica_states if deployment is not None else {}
        return any(count for state, count in states.items() if state == "RUNNING")

    def _probed(self, key: Key) -> ApplicationState:
        if key in self._proved:
            return ApplicationState("ready")
        version = self._versions.get(key)
        if version is None:
            return ApplicationState("starting", "it was not asked for yet, so it was not probed")
        reason = probe(self._settings, version)
        if reason:
            return ApplicationState("starting", reason)
        self._proved.add(key)
        return ApplicationState("ready")

    def _overview(self) -> Mapping[str, ApplicationStatusOverview]:
        return self._call(lambda: serve.status().applications)

    def _deploy(self, served: ServedVersion, replicas: Replicas) -> None:
        settings, version = self._settings, served.version
        deployment = deployment_of(Replica, version, settings, replicas)
        # A replica writes to the spool and needs no way into the ledger's database.
        harmless = settings.model_copy(update={"database_url": SecretStr("")})
        target = serve.RunTarget(
            target=deployment.bind(served, harmless),
            name=application_name(version.model, version.version),
            route_prefix=None,
        )
        serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    def _call(self, act: Callable[[], Result]) -> Result:
        """Do something with Ray, connected, within a time limit.

        Ray's own calls wait without limit for a head that is gone, so they run in a thread.

        Raises:
            Unavailable: Ray does not answer; the next call connects again.
        """
        outcome: list[Result] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                self._connect()
                outcome.append(act())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True, name="ray call")
        thread.start()
        thread.join(CALL_TIMEOUT_S)
        if outcome:
            return outcome[0]
        self._session, self._broken = None, True
        if failure and isinstance(failure[0], SteelyardError):
            raise failure[0]
        why = f"{type(failure[0]).__name__}: {failure[0]}" if failure else "no answer"
        address = self._settings.local_ray_address
        raise Unavailable(f"Ray at {address}: {why}") from (failure[0] if failure else None)

    def _connect(self) -> None:
        """Join the cluster and start Ray Serve there, unless this is done for this very head."""
        _require_head(self._settings)
        session = current_session(self._settings)
        if self._session == session and ray.is_initialized():
            return
        # A process that joined this head before us shares its connection; after a failure or
        # under a new head, the old connection is of no use.
        if not ray.is_initialized() or self._broken or self._session is not None:
            ray.shutdown()
            ray.init(
                address=self._settings.local_ray_address,
                namespace="steelyard",
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        self._proved.clear()
        # Replicas have doors of their own.
        serve.start(
            proxy_location=ProxyLocation.Disabled,
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
        self._session, self._broken = session, False


def deployment_of(
    replica: type[Replica], version: ModelVersion, settings: Settings, replicas: Replicas = ONE
) -> serve.Deployment:
    """The replicas of a version, with the limits and health checks that the settings ask for.

    Ray Serve restarts replicas whose code version is another one, and makes a random one up when
    it is given none, as its decorator insists since 2.60; so it is given by the way that Ray
    Serve itself uses. The same code version with other numbers leaves running replicas alone.
    """
    made = serve.deployment(
        name=deployment_name(version),
        **_numbers(replicas, settings),
        # Where replicas must be replaced, the new ones come before the old ones go.
        max_surge_percent=100,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=settings.replica_request_limit,
        max_queued_requests=settings.replica_queue_limit,
        graceful_shutdown_timeout_s=5.0,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=1.0,
        health_check_timeout_s=10.0,
        # The bytes are checked: what fails twice fails always.
        max_constructor_retry_count=2,
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )(replica)
    return made.options(version=code_version(version, settings), _internal=True)


def _numbers(replicas: Replicas, settings: Settings) -> dict[str, Any]:
    if replicas.least == replicas.most:
        return {"num_replicas": replicas.least}
    return {"autoscaling_config": AutoscalingConfig(
        min_replicas=replicas.least, max_replicas=replicas.most,
        target_ongoing_requests=max(1, settings.replica_request_limit // 8),
        policy=AutoscalingPolicy(policy_function=replicas_for),
        upscale_delay_s=5.0, downscale_delay_s=60.0,
    )}  # fmt: skip


def code_version(version: ModelVersion, settings: Settings) -> str:
    """What tells replicas that must be replaced: other bytes, other settings, another release."""
    text = f"{version.sha256}|{__version__}|{settings.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_head(settings: Settings) -> None:
    """Ray itself would wait half a minute for a head that is not there.

    Raises:
        Unavailable: nobody listens at the head's address.
    """
    host, _, port = settings.local_ray_address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2.0).close()
    except OSError as error:
        raise Unavailable(
            f"Ray's head at {settings.local_ray_address} does not answer: {error}.",
            "Is it running? See `steelyard status`.",
        ) from error


def current_session(settings: Settings) -> str:
    """What tells one life of the head from the next: its session folder, if the head is ours."""
    latest = settings.ray_temp_dir / "session_latest"
    if settings.ray_address or not latest.is_symlink():
        return settings.local_ray_address
    return os.readlink(latest)


def application_name(model: str, version: int) -> str:
    """The application of a version: ``digits-v2``."""
    return f"{model}-v{version}"


def deployment_name(version: ModelVersion) -> str:
    """The deployment inside it, which carries the digest: other bytes, other deployment.

    It begins with the file's form: ``onnx``, by whatever runtime it is run, or ``safetensors``.
    """
    return f"{version.artifact.rpartition('.')[2]}-{version.sha256[:16]}"


def reason_of(overview: ApplicationStatusOverview) -> str:
    """Why an application is not ready, in one line: the last line of what Ray Serve tells."""
    messages = [overview.message, *(one.message for one in overview.deployments.values())]
    lines = [line.strip() for text in messages for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Refused|Exception|Fail)\b", line)]
    return (errors or lines or [str(overview.status)])[-1][:500]
