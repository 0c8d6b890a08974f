"""What carrying out a rollout plan would take, from what the model saw lately."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.domain.rehearsal import Rehearsal, Traffic, rehearse
from steelyard.domain.rollout import SECOND_US
from steelyard.domain.rollout_plan import Plan

if TYPE_CHECKING:
    from steelyard.adapters.sql.predictions import PredictionStore
    from steelyard.ports.clock import Clock

HOUR_S = 3_600
START_S = 10.0
"""Seconds until a version is ready, when none of the model was started before."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The traffic of the last hour and what it makes of a plan."""

    traffic: Traffic
    found: Rehearsal


class Rehearsals:
    """The use case: look at an hour, imagine the rest."""

    def __init__(self, predictions: "PredictionStore", clock: "Clock") -> None:
        self._predictions = predictions
        self._clock = clock

    def rehearse(self, model: str, plan: Plan, worse: float = 3.0) -> Rehearsed:
        """Estimate what a plan takes at the traffic of the model's last hour."""
        since_us = self._clock.now_us() - HOUR_S * SECOND_US
        counts = self._predictions.counts(model, since_us)
        requests = sum(row["requests"] for row in counts)
        errors = sum(row["errors"] for row in counts)
        traffic = Traffic(requests / HOUR_S, errors / requests if requests else 0.0)
        return Rehearsed(traffic, rehearse(plan, traffic, START_S, worse))
