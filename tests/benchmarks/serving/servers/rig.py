"""A replica of which each request says what is to be left out.

    STEELYARD_HOME=… python rig.py MODEL…

So all ways share process, memory and connections, and what the machine does meanwhile. Nothing of
the kind is in the product: what is left out here is left out by classes of this file.
"""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace

import ray
from ray import serve

from steelyard.bootstrap import Platform
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings, load_settings
from steelyard_serving.app import deployment_of
from steelyard_serving.audit import Answered
from steelyard_serving.deployment import Replica
from steelyard_serving.http_connection import Answer, Answering, Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.near_duplicates import NearDuplicates
from steelyard_serving.pipeline import Checks
from steelyard_serving.quota import Quota
from steelyard_serving.replica import LoadedModel
from steelyard_serving.rules import Rules

SWITCH = "x-bench-without"


class Unrecorded(Ingress):
    """Meters like its parent and makes no record."""

    def _count(self, answered: Answered) -> None:
        """Count a request, and forget it."""
        outcome = answered.outcome
        self._meter.add("serve", outcome.busy_ns, outcome.items, requests=1)


class Uncounted(Ingress):
    """Answers like its parent; counts nothing and makes no record."""

    def _count(self, answered: Answered) -> None:
        """Do nothing."""


class Ways:
    """Answers in the way that a header names; ``/flush`` makes the meter write what it has."""

    def __init__(self, ways: Mapping[str, Ingress], meter: Meter) -> None:
        self._ways = ways
        self._meter = meter

    async def answer(self, request: Request) -> Answer:
        """One request."""
        if request.path.endswith("/flush"):
            await asyncio.to_thread(self._meter.flush)
            return Answer(200, b"written", {})
        return await self._ways[request.headers[SWITCH]].answer(request)


class Rig(Replica):
    """Steelyard's replica with those beside it that leave a part out."""

    def _ingress(self, served: ServedVersion, settings: Settings) -> Answering:
        limit = settings.body_limit_bytes
        checks = Checks(Rules(settings), Quota(settings), NearDuplicates(()))
        model, meter = LoadedModel(served.version, served.artifact), self._meter
        ways = {
            "nothing": Ingress(model, meter, limit, checks),
            "audit": Unrecorded(model, meter, limit, checks),
            "audit and metering": Uncounted(model, meter, limit, checks),
            "near": Ingress(model, meter, limit, replace(checks, near=None)),
            "near and limits": Ingress(model, meter, limit),
            "all four": Uncounted(model, meter, limit),
        }
        return Ways(ways, meter)


def main() -> None:
    """Start it beside the platform's own applications, and leave it there."""
    settings = load_settings()
    platform = Platform(settings)
    ray.init(address=settings.local_ray_address, namespace="steelyard", log_to_driver=False)
    for model in sys.argv[1:]:
        found = platform.registry.version(model, 1)
        # A name of its own, and so a door of its own.
        version = replace(found, model=f"rig-{model}")
        served = ServedVersion(version, platform.registry.fetch(found, settings.cache_dir))
        rig = deployment_of(Rig, version, settings).bind(served, settings)
        serve.run(rig, name=f"rig_{model}", route_prefix=None)


if __name__ == "__main__":
    main()
