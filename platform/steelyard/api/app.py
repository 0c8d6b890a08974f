"""The application: pages, API, static files, and the guards around them."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from starlette.staticfiles import StaticFiles

from steelyard import __version__
from steelyard.api import documents, errors
from steelyard.api.evidence import Evidence
from steelyard.api.labels import labelling
from steelyard.api.metrics import monitoring
from steelyard.api.pages import dashboard
from steelyard.api.security import KnownHosts, LastResort, SecurityHeaders
from steelyard.api.views import Views
from steelyard.bootstrap import Platform

STATIC = Path(__file__).parent / "static"


def create_app(platform: Platform) -> FastAPI:
    """The dashboard and HTTP API over a platform. The first request opens the ledger.

    FastAPI's own documentation pages load scripts from elsewhere, so they are off; the schema is
    at ``/api/v1/openapi.json``.
    """
    app = FastAPI(
        title="Steelyard", version=__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )  # fmt: skip
    views = Views(platform, Evidence(platform))
    errors.register(app)
    app.include_router(_reading(platform, views))
    app.include_router(labelling(platform))
    app.include_router(monitoring(platform))
    app.include_router(dashboard(views))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(LastResort)  # the last one added is the outermost
    app.add_middleware(KnownHosts, host=platform.settings.host)
    app.add_middleware(SecurityHeaders)
    return app


def _reading(platform: Platform, views: Views) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, str]:
        """200 when the ledger's database answers."""
        platform.ledger.head()
        return {"status": "ok"}

    @router.get("/api/v1/predictions/{prediction_id}")
    def prediction(prediction_id: str) -> Response:
        """Who answered, why that version, from which run, at what direct cost."""
        return documents.json_answer(documents.prediction_document(views.prediction(prediction_id)))

    return router
