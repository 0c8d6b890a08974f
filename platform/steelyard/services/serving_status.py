"""How each version serves right now: wanted, running, asked, and why it is not ready."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from steelyard.domain.quantities import SECOND_US
from steelyard.domain.serving_counters import ReplicaCounters
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.traffic import Route

if TYPE_CHECKING:
    from steelyard.adapters.sql.operations import OperationStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.services.operations import Operations
    from steelyard.services.policies import Policies

LATELY_US = 300 * SECOND_US
"""How far back requests, errors and a shadow's comparisons are counted."""
Memory = Callable[[Iterable[int]], int | None]


class Living(Protocol):
    """The replicas whose processes run on this machine."""

    def living(self) -> Sequence[ReplicaCounters]:
        """All of them."""
        ...


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A shadow against the live answers, lately: those whose classes could be compared, and differ.

    ``by`` is who asked for the shadow: an operator, or an open rollout's plan.
    """

    share_bp: int
    compared: int
    different: int
    by: Literal["operator", "rollout"]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version.

    ``role`` is why it runs: stable, candidate, warm, shadow; ``stopping`` when nothing asks for it
    any more. ``phase`` is ``absent`` while the controller knows nothing of it yet; ``reason`` says
    why it is not ready. ``weight_bp`` is its share of requests, None outside of the split.
    ``ready_since_us`` is None while it is not ready. ``pids`` are its replicas on this machine,
    ``memory_bytes`` what they have to themselves, None when it cannot be looked at. Requests and
    server errors are those of the last five minutes' metered windows, shadows' copies left out.
    """

    model: str
    version: int
    role: str
    phase: str
    reason: str
    arm: str | None
    weight_bp: int | None
    ready_since_us: int | None
    replicas_min: int
    replicas_max: int
    pids: tuple[int, ...]
    memory_bytes: int | None
    requests: int
    errors: int
    shadow: Disagreement | None


@dataclass(frozen=True)
class ServingStatus:
    """Reads of SQL and of this machine."""

    store: "RolloutStore"
    operations: "Operations"
    operation_store: "OperationStore"
    policies: "Policies"
    replicas: Living
    memory: Memory
    clock: "Clock"

    def versions(self, model: str | None = None) -> list[VersionStatus]:
        """Every version that runs or should, of one model or of all."""
        models = [model] if model is not None else self.store.models()
        applications = {(a["model"], a["version"]): a for a in self.store.applications.published()}
        living = self.replicas.living()
        policies = self.policies.current()
        found = []
        for name in models:
            rows = {version: row for (of, version), row in applications.items() if of == name}
            mine = [one for one in living if one.served.model == name]
            policy = policies.get(name, ServingPolicy())
            found += self._of(name, rows, mine, policy)
        return found

    def _of(
        self, model: str, applications: Mapping[int, Mapping[str, Any]],
        living: Sequence[ReplicaCounters], policy: ServingPolicy,
    ) -> list[VersionStatus]:  # fmt: skip
        roles = self.operations.desired(model).versions
        since_us = self.clock.now_us() - LATELY_US
        versions = sorted({*roles, *applications})
        asked = self.operation_store.asked(model, versions, since_us)
        route = self.store.route(model)
        found = []
        for version in versions:
            row = applications.get(version, {"phase": "absent", "reason": "", "updated_us": None})
            pids = tuple(sorted(one.pid for one in living if one.served.version == version))
            arm, weight_bp = weight(route, version)
            requests, errors = asked.get(version, (0, 0))
            found.append(VersionStatus(
                model, version, roles.get(version, "stopping"), row["phase"], row["reason"],
                arm, weight_bp, row["updated_us"] if row["phase"] == "ready" else None,
                policy.replicas_min, policy.replicas_max, pids, self.memory(pids),
                requests, errors, self._disagreement(model, version, since_us),
            ))  # fmt: skip
        return found

    def _disagreement(self, model: str, version: int, since_us: int) -> Disagreement | None:
        asked = self.operations.repeating().get(model, ())
        shadow = next((one for one in asked if one.version == version), None)
        if shadow is None:
            return None
        setting = self.operations.shadows().get(model)
        operators = shadow.of == "stable" and setting is not None and setting.version == version
        compared, different = self.operation_store.agreement(model, version, since_us)
        by: Literal["operator", "rollout"] = "operator" if operators else "rollout"
        return Disagreement(shadow.share_bp, compared, different, by)


def weight(route: Route | None, version: int) -> tuple[str | None, int | None]:
    """The arm of a version and its share of requests; None, None outside of the split.

    >>> weight(Route("m", 1, 3), 1)
    ('stable', 10000)
    """
    if route is not None and version == route.stable:
        return "stable", route.stable_bp
    for share in route.shares if route is not None else ():
        if share.version == version:
            return "canary", share.weight_bp
    return None, None
