"""``/metrics``: everything that Prometheus may scrape, in its text format.

It tells what the dashboard's pages tell, and like them it asks for no token: the API binds to
this machine unless the settings say otherwise.
"""

from itertools import chain

from fastapi import APIRouter
from fastapi.responses import Response

from steelyard.bootstrap import Platform
from steelyard.bootstrap.counting import keys_asked
from steelyard.domain.exposition import CONTENT_TYPE, exposed
from steelyard.services.key_monitoring import key_families


def monitoring(platform: Platform) -> APIRouter:
    """The one route."""
    router = APIRouter(include_in_schema=False)  # it is no JSON

    @router.get("/metrics")
    def metrics() -> Response:
        """Counters of inference; weights, costs, energy, emissions and budgets from the ledger."""
        keys = key_families(keys_asked(platform.settings, platform.clock.now_us()))
        families = chain(platform.monitoring.families(), keys)
        return Response(exposed(families), media_type=CONTENT_TYPE)

    return router
