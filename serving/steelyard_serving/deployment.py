"""The Ray Serve deployment: one replica is one version loaded, one device of the ledger.

A replica imports neither torch nor MLflow nor SQLAlchemy: it starts fast, stays small, and has
no credentials to lose.
"""

from starlette.requests import Request
from starlette.responses import Response

from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.replica import OnnxModel


class Replica:
    """What Ray Serve runs. The work is in ``Ingress``; this adapts requests and shutdown."""

    def __init__(self, served: ServedVersion, settings: Settings) -> None:
        self._meter = Meter(settings, served.version)
        try:
            model = OnnxModel(served.version, served.artifact)
        except Exception:
            self._meter.stop()
            raise
        self._meter.add("warmup", model.warmup_ns + model.steady_ns)
        self._ingress = Ingress(model, self._meter, settings.body_limit_bytes)

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
        meter = getattr(self, "_meter", None)
        if meter is not None:
            meter.stop()
