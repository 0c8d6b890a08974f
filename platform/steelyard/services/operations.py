"""What should run beside rollouts' word: shadows, and versions that are taken out of service."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from steelyard.domain.deployment import Desired, desired_versions
from steelyard.domain.errors import Conflict, NotFound
from steelyard.domain.operation import Drain, ShadowSetting, shadows_of
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_record import Stored
from steelyard.domain.serving_snapshot import Shadow
from steelyard.domain.traffic import Route

if TYPE_CHECKING:
    from steelyard.adapters.sql.operations import OperationStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.gates import Gates
    from steelyard.services.rollouts import Rollouts

RECENT_ROLLOUTS = 20


class Operations:
    """The use cases of operators."""

    def __init__(
        self, store: "OperationStore", rollouts: "Rollouts", registry: "Registry", gates: "Gates",
        clock: "Clock",
    ) -> None:  # fmt: skip
        self._store = store
        self._rollouts = rollouts
        self._registry = registry
        self._gates = gates
        self._clock = clock

    def desired(self, model: str) -> Desired:
        """The versions of a model that should run now, and why each does."""
        return self.all_desired().get(model, Desired(model, {}))

    def all_desired(self) -> dict[str, Desired]:
        """The same of every model that was ever deployed."""
        fleet, now_us = self._rollouts.store.fleet, self._clock.now_us()
        rollouts = fleet.rollouts(RECENT_ROLLOUTS)
        # Asked after them: who took all traffic since is among these.
        stable = _stable(rollouts, fleet.stable(), fleet.routes())
        shadows, drained = self._store.shadows(), self._store.drained()
        return {
            model: desired_versions(
                model, stable.get(model), [one.rollout for one in stored], now_us,
                shadows[model].version if model in shadows else None, drained.get(model),
            )
            for model, stored in rollouts.items()
        }  # fmt: skip

    def shadows(self) -> Mapping[str, ShadowSetting]:
        """Model -> its shadow, for the models that have one."""
        return self._store.shadows()

    def repeating(self) -> dict[str, tuple[Shadow, ...]]:
        """Model -> who repeats its requests, or will when it is ready."""
        settings = self._store.shadows()
        rollouts: dict[str, list[Rollout]] = {model: [] for model in settings}
        for stored in self._rollouts.store.all_open():
            rollouts.setdefault(stored.rollout.model, []).append(stored.rollout)
        return {
            model: shadows_of(self._operators(settings.get(model)), some)
            for model, some in rollouts.items()
        }

    def rules(self, ready: Collection[tuple[str, int]]) -> dict[str, tuple[Shadow, ...]]:
        """What replicas are told: who repeats requests and is ready to."""
        found = {
            model: tuple(one for one in some if (model, one.version) in ready)
            for model, some in self.repeating().items()
        }
        return {model: some for model, some in found.items() if some}

    def _operators(self, setting: ShadowSetting | None) -> ShadowSetting | None:
        """A setting while it means something: its version may have become stable since."""
        if setting is None or setting.version == self._rollouts.stable(setting.model):
            return None
        return setting

    def shadow(
        self, model: str, version: int, share_bp: int, actor: str, reason: str = ""
    ) -> ShadowSetting:
        """Let a version answer copies of a share of stable's requests, for comparison only.

        Raises:
            NotFound, Refused: the version does not exist or does not pass its gates.
            Conflict: nothing is deployed, or the version has all traffic already.
        """
        self._registry.version(model, version)
        stable = self._rollouts.stable(model)
        if stable is None:
            raise Conflict(
                f"{model} is not deployed yet.", f"First: steelyard deploy {model}/{version}."
            )
        if stable == version:
            raise Conflict(f"{model}/{version} has all traffic already: it cannot shadow itself.")
        self._gates.admit(model, version)
        setting = ShadowSetting(model, version, share_bp, actor, reason, self._clock.now_us())
        self._store.set_shadow(setting)
        return setting

    def no_shadow(self, model: str, actor: str, reason: str = "") -> ShadowSetting:
        """End a model's shadow; its version stops unless something else needs it.

        Raises:
            NotFound: it has none.
        """
        known = self._store.shadows().get(model)
        if known is None:
            raise NotFound(f"{model} has no shadow.", "See: steelyard serve status.")
        self._store.set_shadow(ShadowSetting(model, None, 0, actor, reason, self._clock.now_us()))
        return known

    def drain(self, model: str, version: int, actor: str, reason: str = "") -> Drain:
        """Stop a version now instead of at the end of its time as a warm one.

        Raises:
            NotFound: it does not run.
            Conflict: it answers clients, or copies of their requests.
        """
        role = self.desired(model).versions.get(version)
        ref = f"{model}/{version}"
        if role is None:
            raise NotFound(f"{ref} is not in service.", "See: steelyard serve status.")
        if role != "warm":
            raise Conflict(f"{ref} cannot be drained: {_WHY_NOT[role]}.", _INSTEAD[role](model))
        drain = Drain(model, version, actor, reason, self._clock.now_us())
        self._store.drain(drain)
        return drain


def _stable(
    rollouts: Mapping[str, Sequence[Stored]], earned: Mapping[str, int],
    routes: Mapping[str, Route],
) -> dict[str, int]:  # fmt: skip
    """Model -> its stable version.

    Where no rollout is open that is who has all traffic: the history learns it a moment later.
    """
    closed = {model for model, some in rollouts.items() if not any(s.rollout.is_open for s in some)}
    return {**earned, **{model: routes[model].stable for model in closed & routes.keys()}}


_WHY_NOT = {
    "stable": "it is the stable version, or the one that an open rollout would return to",
    "candidate": "an open rollout gives it traffic",
    "shadow": "it is the shadow of its model",
}
_INSTEAD = {
    "stable": lambda model: f"Roll another version out: steelyard rollout start {model}/VERSION.",
    "candidate": lambda model: f"End the rollout first: steelyard rollout abort {model}.",
    "shadow": lambda model: f"End that first: steelyard serve shadow {model} --off.",
}
