"""What carrying out a rollout plan would take and cost, from what the model saw lately."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.domain.metering import Resource
from steelyard.domain.rehearsal import Reaction, Rehearsal, Traffic, rehearse
from steelyard.domain.rollout import SECOND_US
from steelyard.domain.rollout_plan import Plan
from steelyard.domain.rollout_spend import Spend, spend
from steelyard.services.policies import Policies

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.predictions import PredictionStore
    from steelyard.adapters.sql.served_time import ServedTimeStore
    from steelyard.ports.clock import Clock

HOUR_S = 3_600
START_S = 10.0
"""Seconds until a version is ready, when none of the model was started before."""
ACKNOWLEDGE_S = 3.0
"""Seconds that a turn waits at most until the edge is seen to use its weights."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a replica reserves, as settings say, and how soon this platform reacts."""

    device_model: str
    price_sku: str
    region: str | None
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The traffic of the last hour, what it makes of a plan, and what that will be charged."""

    traffic: Traffic
    found: Rehearsal
    spend: Spend


class Rehearsals:
    """The use case: look at an hour, imagine the rest."""

    def __init__(
        self, predictions: "PredictionStore", served: "ServedTimeStore", catalog: "CatalogStore",
        policies: Policies, clock: "Clock", device: Device,
    ) -> None:  # fmt: skip
        self._predictions = predictions
        self._served = served
        self._catalog = catalog
        self._policies = policies
        self._clock = clock
        self._device = device

    def rehearse(self, model: str, plan: Plan, worse: float = 3.0) -> Rehearsed:
        """Estimate what a plan takes at the traffic of the model's last hour."""
        since_us = self._clock.now_us() - HOUR_S * SECOND_US
        counts = self._predictions.counts(model, since_us)
        requests = sum(row["requests"] for row in counts)
        errors = sum(row["errors"] for row in counts)
        traffic = Traffic(requests / HOUR_S, errors / requests if requests else 0.0)
        found = rehearse(plan, traffic, START_S, self._device.reaction, worse)
        return Rehearsed(traffic, found, self._spend(model, plan, found, since_us))

    def _spend(self, model: str, plan: Plan, found: Rehearsal, since_us: int) -> Spend:
        now, device = self._clock.now_us(), self._device
        replica = Resource("replica/planned", "replica", device.device_model, 1, 1,
                           device.price_sku, now, device.region)  # fmt: skip
        valuation = self._catalog.rate_book(now).valuation(replica, now)
        served = self._served.of(model, device.device_model, since_us)
        replicas = self._policies.policy(model).replicas_min
        return spend(plan, found, replica, valuation, served, replicas)
