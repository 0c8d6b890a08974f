"""Compressed variants that roll out by themselves, where an operator said by which plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.domain.auto_rollout import (
    AutoRollout,
    Registered,
    Situation,
    eligible,
    policy_actor,
)
from steelyard.domain.errors import Conflict, Fault, InvalidInput, NotFound, Refused
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, check_plan
from steelyard.services.gates import failures
from steelyard.services.known_models import check_models

if TYPE_CHECKING:
    from steelyard.adapters.sql.auto_rollouts import AutoRolloutStore
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.aliases import Aliases
    from steelyard.services.gates import Gates
    from steelyard.services.rollouts import Rollouts


@dataclass(frozen=True, slots=True)
class Waiting:
    """A variant that the setting is about, and what keeps it; empty: nothing any more."""

    version: int
    why_not: str


class AutoRollouts:
    """The use cases of automatic rollouts."""

    def __init__(
        self, store: "AutoRolloutStore", rollouts: "Rollouts", aliases: "Aliases", gates: "Gates",
        registry: "Registry", catalog: "CatalogStore", clock: "Clock",
    ) -> None:  # fmt: skip
        self._store = store
        self._rollouts = rollouts
        self._aliases = aliases
        self._gates = gates
        self._registry = registry
        self._catalog = catalog
        self._clock = clock

    def setting(self, model: str) -> AutoRollout | None:
        """What is set for a model; None: nothing ever was, so nothing happens by itself."""
        return self._store.current().get(model)

    def history(self, model: str) -> list[AutoRollout]:
        """Everything that was ever set for a model, oldest first."""
        return self._store.history(model)

    def set(
        self, model: str, plan: Plan | None, plan_name: str, actor: str, reason: str = ""
    ) -> AutoRollout:
        """Let compressed variants that come from now on roll out by a plan, or (None) no more.

        Raises:
            NotFound: there is no such model.
            InvalidInput: the plan cannot be carried out.
        """
        check_models(self._registry, model)
        if plan is not None:
            _check(plan)
        now, before = self._clock.now_us(), self.setting(model)
        on = before is not None and before.plan is not None
        since_us = before.since_us if before is not None and on else now
        setting = AutoRollout(model, plan, plan_name, actor, reason.strip(), now, since_us)
        self._store.set(setting)
        return setting

    def waiting(self, model: str) -> list[Waiting]:
        """The variants that a model's setting is about now, and what keeps each."""
        return self._waiting(self.setting(model), model)

    def start_due(self) -> list[Rollout]:
        """Begin what may begin: at most one rollout a model.

        Raises:
            Unavailable: the registry does not answer.
        """
        started = []
        for model, setting in self._on().items():
            for one in self._waiting(setting, model):
                if one.why_not:
                    continue
                rollout = self._start(setting, one.version)
                if rollout is not None:
                    started.append(rollout)
                    break
        return started

    def _on(self) -> Mapping[str, AutoRollout]:
        return {m: s for m, s in self._store.current().items() if s.plan is not None}

    def _waiting(self, setting: AutoRollout | None, model: str) -> list[Waiting]:
        if setting is None or setting.plan is None:
            return []
        known = [
            Registered(row["version"], row["parent"], row["relation"], row["created_us"])
            for row in self._catalog.versions(model)
        ]
        return [
            Waiting(version, self._why_not(model, version))
            for version in eligible(setting, known, self._situation(model))
        ]

    def _situation(self, model: str) -> Situation:
        opened = any(one.rollout.model == model for one in self._rollouts.store.all_open())
        return Situation(
            self._rollouts.stable(model), opened, bool(self._aliases.standing(model)),
            self._store.tried(model),
        )  # fmt: skip

    def _why_not(self, model: str, version: int) -> str:
        try:
            examined = self._gates.examine(model, version)
        except (NotFound, Refused) as error:
            return error.message
        return "" if examined.passed else failures(examined)

    def _start(self, setting: AutoRollout, version: int) -> Rollout | None:
        """Begin one; None when somebody was faster, or its file is not what was measured."""
        assert setting.plan is not None
        reason = (
            f"a compressed variant of the stable version passed its gates; "
            f"{setting.actor} lets those roll out by plan {setting.plan_name}"
        )
        try:
            return self._rollouts.start(
                setting.model, version, setting.plan, policy_actor(setting.model), reason=reason
            )
        except (Conflict, Refused, NotFound):
            return None


def _check(plan: Plan) -> None:
    check_plan(plan)
    if plan.candidates:
        fault = Fault("candidates", "are named, and a variant that comes is the only one")
        raise InvalidInput(str(fault), (fault,), "Leave them out of the plan.")
