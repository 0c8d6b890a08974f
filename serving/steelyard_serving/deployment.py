"""The Ray Serve deployment: one replica is one version loaded, one device of the ledger.

A replica imports neither MLflow nor SQLAlchemy, and torch only for a version that torch runs: it
starts fast, stays small, and has no credentials to lose.
"""

from typing import TYPE_CHECKING

from steelyard.domain.model_version import ModelVersion
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.autoscaling import ONGOING
from steelyard_serving.door import Door
from steelyard_serving.door_ports import open_door
from steelyard_serving.envelope import prepared
from steelyard_serving.http_connection import Answering
from steelyard_serving.ingress import Ingress
from steelyard_serving.internal import mark
from steelyard_serving.meter import Meter
from steelyard_serving.metrics import Metrics
from steelyard_serving.near_duplicates import NearDuplicates
from steelyard_serving.pipeline import Checks
from steelyard_serving.quota import Quota
from steelyard_serving.replica import LoadedModel
from steelyard_serving.rules import Rules
from steelyard_serving.shadow import Shadow

if TYPE_CHECKING:
    from steelyard_serving.traces_export import TracesExport


class Replica:
    """What Ray Serve runs: it places, watches and replaces replicas; requests come by the door."""

    def __init__(self, served: ServedVersion, settings: Settings) -> None:
        self._meter = Meter(settings, served.version)
        try:
            self._door = self._opened(served, settings)
        except Exception:
            self._meter.stop()
            raise

    def _opened(self, served: ServedVersion, settings: Settings) -> Door:
        version = served.version
        ingress = self._ingress(served, settings)
        door = Door(
            ingress, open_door(settings, version.model, version.version), f"/v/{version.name}/",
            settings.replica_request_limit + settings.replica_queue_limit,
            settings.body_limit_bytes,
        )  # fmt: skip
        door.open()
        return door

    def _ingress(self, served: ServedVersion, settings: Settings) -> Answering:
        version = served.version
        model = LoadedModel(version, served.artifact)
        self._meter.add("warmup", model.warmup_ns + model.steady_ns)
        metrics = Metrics(settings, version)
        self._shadow = Shadow(settings, version, metrics)
        self._quota = Quota(settings)
        return Ingress(
            model, self._meter, settings.body_limit_bytes,
            checks(served, settings, self._quota), metrics, self._shadow,
            self._traced(settings, version, metrics),
        )  # fmt: skip

    def _traced(
        self, settings: Settings, version: ModelVersion, metrics: Metrics
    ) -> "TracesExport | None":
        """Where traces go; what encodes them is loaded only if they go anywhere."""
        if not settings.otlp_endpoint:
            return None
        from steelyard_serving.traces_export import TracesExport

        self._traces = TracesExport(settings, version, metrics)
        return self._traces

    async def check_health(self) -> None:
        """Ray Serve asks every second; a replica that cannot answer or meter is replaced.

        Raises:
            RuntimeError: the meter's thread ended, or the door's loop has no turn.
        """
        if not self._meter.alive:
            raise RuntimeError("the meter stopped: what this replica does would not be accounted")
        await self._door.beat()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Ray Serve scales by: it sees none of the requests itself."""
        return {ONGOING: self._door.ongoing}

    def __del__(self) -> None:
        """Ray Serve calls this on a graceful stop: the last window must not be lost."""
        for name in ("_door", "_shadow", "_traces", "_quota", "_meter"):
            part = getattr(self, name, None)
            if part is not None:
                part.stop()


def checks(served: ServedVersion, settings: Settings, quota: Quota) -> Checks:
    """What requests are held against here: the snapshot's rules, and what training saw."""
    version = served.version
    bounds = prepared(version.envelope, version.signature)
    return Checks(Rules(settings), quota, NearDuplicates(bounds), bounds, mark(settings))
