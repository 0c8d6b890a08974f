"""The history of what earned all traffic, written once a healthy rollout."""

from typing import TYPE_CHECKING

from steelyard.domain.promotion import CHAMPION, Promotion
from steelyard.domain.rollout import Rollout

if TYPE_CHECKING:
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.services.served_versions import ServedVersions

OVERRIDE = "override"
"""The verb of a rollout that began although its gates were not passed; its reason says why."""


class Promotions:
    """Records promotions; ``token`` is the controller's fencing number, a person has none."""

    def __init__(self, store: "RolloutStore", served: "ServedVersions", clock: "Clock") -> None:
        self._store = store
        self._served = served
        self._clock = clock

    def record(self, rollout: Rollout, token: int | None = None) -> None:
        """Record that a rollout's candidate earned all traffic; once is enough.

        Raises:
            Conflict: another controller took over.
        """
        version = self._served.version(rollout.model, rollout.candidate)
        verb = {"first": "deploy", "canary": "promote", "undo": "undo"}[rollout.kind]
        first = self._store.events(rollout.rollout_id)[0]
        overridden = f"; {first['reason']}" if first["verb"] == OVERRIDE else ""
        promotion = Promotion(
            self._clock.now_us(), rollout.model, CHAMPION, rollout.stable, rollout.candidate,
            rollout.created_by, verb, rollout.reason + overridden, rollout.rollout_id,
            version.sha256,
        )  # fmt: skip
        self._store.promote(promotion, token)

    def complete(self, model: str, token: int | None = None) -> None:
        """Record promotions that a crash left out: a healthy rollout without its history row."""
        known = {p.rollout_id for p in self._store.promotions(model)}
        for stored in reversed(self._store.rollouts(model)):
            healthy = stored.rollout.condition == "healthy"
            if healthy and stored.rollout.rollout_id not in known:
                self.record(stored.rollout, token)
