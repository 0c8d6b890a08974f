"""Rollouts: start and change them as a person asks, reconcile them as the controller.

Every act is one transaction with an event. The controller's turn is: look, ask the pure
``advance``, write down what should be (``intent``), and only then touch the edge; what the edge
was seen to use is confirmed afterwards. A crash between any two of these repeats the turn.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steelyard.domain.advance import advance
from steelyard.domain.analysis import Verdict
from steelyard.domain.decision import told
from steelyard.domain.errors import Conflict, NotFound
from steelyard.domain.promotion import CHAMPION, Change, Promotion, stable_version
from steelyard.domain.rollout import Evidence, Kind, Rollout
from steelyard.domain.rollout_plan import Plan, Step, check_plan
from steelyard.domain.rollout_verbs import Verb, act
from steelyard.domain.traffic import BUCKETS, Route
from steelyard.ports.applications import ApplicationState
from steelyard.services.rollout_evidence import Evidences

if TYPE_CHECKING:
    from steelyard.adapters.sql.arms import ArmStore
    from steelyard.adapters.sql.rollouts import RolloutStore, Stored
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.gates import Gates

ATTEMPTS = 5
OVERRIDE = "override"
"""The verb of a rollout that began although its gates were not passed; its reason says why."""
AT_ONCE = Plan(steps=(Step(BUCKETS),), metrics=(), keep_warm_s=300.0)
"""The plan of a first deployment and of an undo: readiness, then all traffic."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one reconcile turn saw and decided, for the controller's log and the tests."""

    before: Rollout
    after: Rollout
    verdicts: tuple[Verdict, ...]


class Rollouts:
    """The use cases of progressive delivery."""

    def __init__(
        self, store: "RolloutStore", arms: "ArmStore", registry: "Registry", gates: "Gates",
        clock: "Clock",
    ) -> None:  # fmt: skip
        self.store = store
        self._evidences = Evidences(store, arms)
        self._registry = registry
        self._gates = gates
        self._clock = clock

    def stable(self, model: str) -> int | None:
        """The version that last earned all traffic."""
        return stable_version(self.store.promotions(model))

    def deploy(
        self, model: str, version: int, actor: str, override: str | None = None
    ) -> Rollout:  # fmt: skip
        """The first deployment of a model: no steps, but gates and readiness as ever.

        ``override`` is an operator's reason to pass over the gates.

        Raises:
            NotFound, Refused: the version does not exist, was not registered by Steelyard, or
                does not pass its gates.
            Conflict: the model serves already, or is being deployed.
        """
        self._registry.version(model, version)
        self._complete_promotions(model)
        current = self.stable(model)
        if current is not None:
            raise Conflict(
                f"{model} serves version {current} already.",
                f"Roll {model}/{version} out: steelyard rollout start {model}/{version}.",
            )
        change = self._admit(model, version, Change(actor, "deploy"), override)
        return self._start("first", model, None, version, AT_ONCE, change)

    def start(
        self, model: str, version: int, plan: Plan, actor: str, override: str | None = None
    ) -> Rollout:  # fmt: skip
        """Roll a version out beside stable.

        ``override`` is an operator's reason to pass over the gates.

        Raises:
            InvalidInput: the plan cannot be carried out.
            NotFound, Refused: the version does not exist or does not pass its gates.
            Conflict: nothing is deployed, the version is stable already, or a rollout is open.
        """
        check_plan(plan)
        self._registry.version(model, version)
        self._complete_promotions(model)
        current = self.stable(model)
        if current is None:
            raise Conflict(
                f"{model} is not deployed yet.", f"First: steelyard deploy {model}/{version}."
            )
        if current == version:
            raise Conflict(f"{model}/{version} has all traffic already.", "Nothing to roll out.")
        change = self._admit(model, version, Change(actor, "start"), override)
        return self._start("canary", model, current, version, plan, change)

    def rollback(self, model: str, actor: str, reason: str) -> Rollout:
        """Back to the last good version: abort an open rollout, else undo the last promotion.

        Raises:
            Conflict: there is no earlier version that earned all traffic.
        """
        self._complete_promotions(model)
        open_rollout = self.store.open_rollout(model)
        if open_rollout is not None and open_rollout.rollout.kind == "canary":
            return self.act(model, "abort", actor, reason)
        history = [p for p in self.store.promotions(model) if p.alias == CHAMPION]
        current = history[-1].to_version if history else None
        earlier = [p.to_version for p in history if p.to_version != current]
        if current is None or not earlier:
            raise Conflict(
                f"{model} has no earlier version that had all traffic.",
                "A rollback goes to the last good version; there is none yet.",
            )
        # It earned its traffic before: what its gates say now is no reason to stay on a worse one.
        return self._start("undo", model, current, earlier[-1], AT_ONCE, Change(actor, "undo"))

    def _admit(self, model: str, version: int, change: Change, override: str | None) -> Change:
        """The change, as it may be made: by its own verb, or as an override with its reason."""
        overridden = self._gates.admit(model, version, override)
        return replace(change, verb=OVERRIDE, evidence=overridden) if overridden else change

    def _start(
        self, kind: Kind, model: str, stable: int | None, version: int, plan: Plan, change: Change,
        lineage: str | None = None,
    ) -> Rollout:  # fmt: skip
        rollout_id = uuid.uuid4().hex[:12]
        rollout = Rollout(
            rollout_id, model, kind, stable, version, plan, lineage=lineage or rollout_id,
            created_us=self._clock.now_us(), created_by=change.actor,
            reason=change.evidence or "waiting for the controller",
        )  # fmt: skip
        return self.store.create(rollout, change).rollout

    def act(self, model: str, verb: Verb, actor: str, reason: str = "") -> Rollout:
        """Apply a person's verb to the newest rollout, whatever the controller does meanwhile.

        Raises:
            NotFound: the model was never deployed.
            Conflict: the verb does not fit the rollout's condition.
        """
        for attempt in range(ATTEMPTS):
            stored = self._newest(model)
            now = self._clock.now_us()
            after = act(verb, stored.rollout, now, reason)
            if after == stored.rollout:
                return after
            route = _route(stored.rollout, after)
            try:
                saved = self.store.save(stored, after, Change(actor, verb), now, route).rollout
            except Conflict:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            if saved.condition == "healthy":
                self._record_promotion(saved, now)
            return saved
        raise AssertionError("unreachable")

    def retry(self, model: str, actor: str, override: str | None = None) -> Rollout:
        """Start a rollout that was aborted once more: same plan, and each unit where it was.

        Raises:
            Conflict: the newest rollout of the model was not aborted.
        """
        last = self._newest(model).rollout
        if last.kind != "canary" or last.condition not in ("degraded", "failed"):
            raise Conflict(
                f"Rollout {last.rollout_id} is {last.condition}, so there is nothing to try again.",
                f"See: steelyard rollout status {model}.",
            )
        if self.stable(model) != last.stable:
            raise Conflict(
                f"{model} has changed since: stable is version {self.stable(model)} now.",
                f"Start anew: steelyard rollout start {model}/{last.candidate}.",
            )
        change = self._admit(model, last.candidate, Change(actor, "retry"), override)
        return self._start(
            "canary", model, last.stable, last.candidate, last.plan, change, last.lineage
        )

    def _newest(self, model: str) -> "Stored":
        found = self.store.rollouts(model, limit=1)
        if not found:
            raise NotFound(
                f"{model} was never deployed or rolled out.", f"First: steelyard deploy {model}/1."
            )
        return found[0]

    def reconcile(
        self, model: str, states: Mapping[tuple[str, int], ApplicationState],
        settle_us: int, token: int,
    ) -> Turn | None:  # fmt: skip
        """One controller turn for a model's open rollout; None when there is none.

        ``settle_us`` is how long facts may take to arrive before an interval counts as complete.
        """
        stored = self.store.open_rollout(model)
        if stored is None:
            return None
        now = self._clock.now_us()
        rollout = stored.rollout
        evidence = self._evidence(rollout, states, settle_us)
        after = advance(rollout, evidence, now)
        if after != rollout:
            route = _route(rollout, after)
            change = Change("controller", "advance", told(rollout, evidence))
            stored = self.store.save(stored, after, change, now, route, token)
        if stored.rollout.condition == "healthy":
            self._record_promotion(stored.rollout, now)
        return Turn(rollout, stored.rollout, evidence.verdicts)

    def confirm(self, model: str, generation: int, token: int) -> None:
        """The edge was seen to use this weight table: the bake of its step starts now."""
        now = self._clock.now_us()
        self.store.confirm(model, generation, now)
        stored = self.store.open_rollout(model)
        if stored is None or stored.rollout.generation != generation:
            return
        if stored.rollout.confirmed_us is None:
            after = replace(stored.rollout, confirmed_us=now)
            self.store.save(stored, after, Change("controller", "confirm"), now, token=token)

    def complete_promotions(self) -> None:
        """Record promotions that a crash left out: a healthy rollout without its history row."""
        for model in self.store.models():
            self._complete_promotions(model)

    def _complete_promotions(self, model: str) -> None:
        known = {p.rollout_id for p in self.store.promotions(model)}
        for stored in reversed(self.store.rollouts(model)):
            healthy = stored.rollout.condition == "healthy"
            if healthy and stored.rollout.rollout_id not in known:
                self._record_promotion(stored.rollout, self._clock.now_us())

    def _record_promotion(self, rollout: Rollout, now_us: int) -> None:
        version = self._registry.version(rollout.model, rollout.candidate)
        verb = {"first": "deploy", "canary": "promote", "undo": "undo"}[rollout.kind]
        first = self.store.events(rollout.rollout_id)[0]
        overridden = f"; {first['reason']}" if first["verb"] == OVERRIDE else ""
        self.store.promote(
            Promotion(now_us, rollout.model, CHAMPION, rollout.stable, rollout.candidate,
                      rollout.created_by, verb, rollout.reason + overridden, rollout.rollout_id,
                      version.sha256)
        )  # fmt: skip

    def _evidence(
        self, rollout: Rollout, states: Mapping[tuple[str, int], ApplicationState], settle_us: int
    ) -> Evidence:
        state = states.get((rollout.model, rollout.candidate), ApplicationState("starting"))
        if rollout.kind != "canary" or rollout.step < 0:
            return Evidence(state.phase, state.reason)
        return self._evidences.of(rollout, state, self._clock.now_us(), settle_us)


def _route(before: Rollout, after: Rollout) -> Route | None:
    """The weight table that a change of course needs; None when traffic stays as it is."""
    if after.condition in ("healthy", "degraded", "failed"):
        if before.step < 0 or after.condition == before.condition:
            return None
        stable = after.candidate if after.condition == "healthy" else after.stable
        return Route(after.model, stable or after.candidate, 0, lineage="-")
    if (before.weight_bp, before.step) == (after.weight_bp, after.step):
        return None
    if after.stable is None:
        return Route(after.model, after.candidate, 0, lineage=after.lineage)
    return Route(after.model, after.stable, 0, after.candidate, after.weight_bp, after.lineage)
