"""Taking versions out of the registry that nothing stands on any more."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from steelyard.domain.deletion import Deletion, Obstacle, Uses, obstacles
from steelyard.domain.deployment import warm_until_us
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.promotion import previous_version

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.deletions import DeletionStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.operations import Operations
    from steelyard.services.policies import Policies


class Deletions:
    """The use cases of deleting versions. All that was recorded of them stays."""

    def __init__(
        self, store: "DeletionStore", rollouts: "RolloutStore", operations: "Operations",
        policies: "Policies", registry: "Registry", catalog: "CatalogStore", clock: "Clock",
    ) -> None:  # fmt: skip
        self._store = store
        self._rollouts = rollouts
        self._operations = operations
        self._policies = policies
        self._registry = registry
        self._catalog = catalog
        self._clock = clock

    def history(self, model: str) -> list[Deletion]:
        """A model's deletions, oldest first."""
        return self._store.deletions(model)

    def obstacles(self, model: str, version: int) -> tuple[Obstacle, ...]:
        """What speaks against deleting a version now.

        Raises:
            NotFound: there is no such model.
        """
        return obstacles(version, self._uses(model, version), self._clock.now_us())

    def delete(self, model: str, version: int, actor: str, reason: str) -> Deletion:
        """Take a version out of the registry, on record.

        Raises:
            NotFound: there is no such version.
            Refused: something stands on it; the message says what, and until when.
            InvalidInput: no reason is given.
        """
        if not reason.strip():
            fault = Fault("reason", "is empty")
            raise InvalidInput(str(fault), (fault,), "Say why: it stays in the history.")
        found = self._registry.version(model, version)
        against = self.obstacles(model, version)
        if against:
            told = "; ".join(_told(one) for one in against)
            raise Refused(f"{found.name} stays: {told}.", f"See: steelyard models show {model}.")
        now = self._clock.now_us()
        self._catalog.record_version(found)  # reports go on knowing it
        deletion = Deletion(now, model, version, found.sha256, actor, reason.strip())
        # On record before it is done: what was meant is known even when the registry goes away.
        self._store.record(deletion)
        self._registry.delete(model, version)
        return deletion

    def _uses(self, model: str, version: int) -> Uses:
        rollouts = [stored.rollout for stored in self._rollouts.rollouts(model)]
        parents = {row["version"]: row["parent"] for row in self._catalog.versions(model)}
        parents |= {one.version: one.parent for one in self._registry.versions(model)}
        named = self._registry.aliases(model).items()
        return Uses(
            roles=self._operations.desired(model).versions,
            previous=previous_version(self._rollouts.promotions(model)),
            parents=parents,
            aliases=tuple(alias for alias, number in named if number == version),
            warm_until_us=warm_until_us(rollouts, version),
            last_us=self._store.last_asked_us(model, version),
            retention_days=self._policies.policy(model).retention_days,
        )


def _told(obstacle: Obstacle) -> str:
    if obstacle.until_us is None:
        return obstacle.why
    when = datetime.fromtimestamp(obstacle.until_us / 1e6, UTC).isoformat(timespec="minutes")
    return f"{obstacle.why}, until {when}"
