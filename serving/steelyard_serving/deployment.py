"""The Ray Serve deployment: one replica is one version loaded, one device of the ledger.

A replica imports neither torch nor MLflow nor SQLAlchemy: it starts fast, stays small, and has
no credentials to lose.
"""

from starlette.requests import Request
from starlette.responses import Response

from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.envelope import prepared
from steelyard_serving.ingress import Ingress
from steelyard_serving.internal import mark
from steelyard_serving.meter import Meter
from steelyard_serving.metrics import Metrics
from steelyard_serving.near_duplicates import NearDuplicates
from steelyard_serving.pipeline import Checks
from steelyard_serving.quota import Quota
from steelyard_serving.replica import OnnxModel
from steelyard_serving.rules import Rules
from steelyard_serving.shadow import Shadow


class Replica:
    """What Ray Serve runs. The work is in ``Ingress``; this adapts requests and shutdown."""

    def __init__(self, served: ServedVersion, settings: Settings) -> None:
        self._meter = Meter(settings, served.version)
        try:
            self._ingress = self._opened(served, settings)
        except Exception:
            self._meter.stop()
            raise

    def _opened(self, served: ServedVersion, settings: Settings) -> Ingress:
        model = OnnxModel(served.version, served.artifact)
        self._meter.add("warmup", model.warmup_ns + model.steady_ns)
        metrics = Metrics(settings, served.version)
        self._shadow = Shadow(settings, served.version, metrics)
        return Ingress(
            model, self._meter, settings.body_limit_bytes,
            checks(served, settings), metrics, self._shadow,
        )  # fmt: skip

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        # A dictionary: Starlette's headers go through the whole list for each name.
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.scope["headers"]
        }
        answer = await self._ingress.answer(
            request.method, request.scope["path"], headers, request.stream()
        )
        return Response(answer.body, answer.status, answer.headers)

    def check_health(self) -> None:
        """Ray Serve asks every few seconds; a replica that cannot meter is replaced.

        Raises:
            RuntimeError: the meter's thread ended.
        """
        if not self._meter.alive:
            raise RuntimeError("the meter stopped: what this replica does would not be accounted")

    def __del__(self) -> None:
        """Ray Serve calls this on a graceful stop: the last window must not be lost."""
        for part in (getattr(self, name, None) for name in ("_shadow", "_meter")):
            if part is not None:
                part.stop()


def checks(served: ServedVersion, settings: Settings) -> Checks:
    """What requests are held against here: the snapshot's rules, and what training saw."""
    version = served.version
    bounds = prepared(version.envelope, version.signature)
    return Checks(Rules(settings), Quota(settings), NearDuplicates(bounds), bounds, mark(settings))
