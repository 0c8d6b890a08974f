"""Rollouts: start and change them as a person asks, reconcile them as the controller.

Every act is one transaction with an event. The controller's turn is: look, ask the pure
``advance``, write down what should be (``intent``), and only then touch the edge; what the edge
was seen to use is confirmed afterwards. A crash between any two of these repeats the turn.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steelyard.domain.analysis import Verdict, judge_all
from steelyard.domain.errors import Conflict, NotFound
from steelyard.domain.promotion import Change, Promotion
from steelyard.domain.rollout import (
    SECOND_US,
    Evidence,
    Kind,
    Plan,
    Rollout,
    Step,
    abort,
    advance,
    check_plan,
    default_metrics,
    pause,
    promote,
    resume,
)
from steelyard.domain.traffic import BUCKETS, Route
from steelyard.ports.applications import ApplicationState

if TYPE_CHECKING:
    from steelyard.adapters.sql.predictions import PredictionStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.gates import Gates

CHAMPION = "champion"
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
        self, store: "RolloutStore", predictions: "PredictionStore", registry: "Registry",
        gates: "Gates", clock: "Clock",
    ) -> None:  # fmt: skip
        self.store = store
        self.predictions = predictions
        self._registry = registry
        self._gates = gates
        self._clock = clock

    def stable(self, model: str) -> int | None:
        """The version that last earned all traffic."""
        history = [p for p in self.store.promotions(model) if p.alias == CHAMPION]
        return history[-1].to_version if history else None

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
        open_rollout = self.store.open_rollout(model)
        if open_rollout is not None and open_rollout.rollout.kind == "canary":
            return self.change(model, "abort", actor, lambda r, now: abort(r, reason, now))
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
        self, kind: Kind, model: str, stable: int | None, version: int, plan: Plan, change: Change
    ) -> Rollout:
        rollout_id = uuid.uuid4().hex[:12]
        rollout = Rollout(
            rollout_id, model, kind, stable, version, plan, lineage=rollout_id,
            created_us=self._clock.now_us(), created_by=change.actor,
            reason=change.evidence or "waiting for the controller",
        )  # fmt: skip
        return self.store.create(rollout, change).rollout

    def change(
        self, model: str, verb: str, actor: str, rule: Callable[[Rollout, int], Rollout]
    ) -> Rollout:
        """Apply a person's verb to the open rollout, whatever the controller does meanwhile.

        Raises:
            NotFound: no rollout is open.
            Conflict: the verb does not fit the rollout's condition.
        """
        for attempt in range(5):
            stored = self.store.open_rollout(model)
            if stored is None:
                raise NotFound(
                    f"No rollout of {model} is open.", f"See: steelyard rollout history {model}."
                )
            now = self._clock.now_us()
            after = rule(stored.rollout, now)
            route = _route(stored.rollout, after)
            try:
                return self.store.save(stored, after, Change(actor, verb), now, route).rollout
            except Conflict:
                if attempt == 4:
                    raise
        raise AssertionError("unreachable")

    def pause(self, model: str, actor: str) -> Rollout:
        """Keep the weight where it is."""
        return self.change(model, "pause", actor, lambda rollout, _: pause(rollout))

    def resume(self, model: str, actor: str) -> Rollout:
        """Go on from the same step."""
        return self.change(model, "resume", actor, lambda rollout, _: resume(rollout))

    def promote(self, model: str, actor: str, full: bool) -> Rollout:
        """Skip the rest of this step, or of all of them."""
        return self.change(model, "promote", actor, lambda rollout, _: promote(rollout, full))

    def abort(self, model: str, actor: str, reason: str) -> Rollout:
        """Give all traffic back to stable."""
        return self.change(model, "abort", actor, lambda rollout, now: abort(rollout, reason, now))

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
        if rollout.kind == "canary" and rollout.step >= 0:
            self._observe(rollout, now, settle_us)
        evidence = self._evidence(rollout, states)
        after = advance(rollout, evidence, now)
        if after != rollout:
            text = "; ".join(v.summary for v in evidence.verdicts)
            route = _route(rollout, after)
            change = Change("controller", "advance", text)
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

    def _observe(self, rollout: Rollout, now_us: int, settle_us: int) -> None:
        length = int(rollout.plan.interval_s * SECOND_US)
        for metric in rollout.plan.metrics:
            labels = metric.name == "labels"
            wait = settle_us + (int(rollout.plan.label_maturity_s * SECOND_US) if labels else 0)
            newest = self.store.observed_until(rollout.rollout_id, metric.name)
            start = rollout.created_us if newest is None else newest + length
            end = rollout.created_us + (now_us - wait - rollout.created_us) // length * length
            if end <= start:
                continue
            count = self.predictions.label_intervals if labels else self.predictions.error_intervals
            rows = count(rollout.model, rollout.lineage, rollout.created_us, length, start, end)
            self.store.observe(rollout.rollout_id, metric.name, rows, now_us)

    def _evidence(
        self, rollout: Rollout, states: Mapping[tuple[str, int], ApplicationState]
    ) -> Evidence:
        state = states.get((rollout.model, rollout.candidate), ApplicationState("starting"))
        verdicts: tuple[Verdict, ...] = ()
        requests = 0
        if rollout.kind == "canary" and rollout.step >= 0:
            plan = rollout.plan
            verdicts = judge_all(
                plan.metrics, self.store.observations(rollout.rollout_id),
                plan.alpha_rollback, plan.alpha_promote,
            )  # fmt: skip
            requests = self.predictions.canary_requests(
                rollout.model, rollout.lineage, rollout.generation
            )
        return Evidence(state.phase, state.reason, verdicts, requests)


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


def plan_of(
    weights: list[float], bake_s: float, min_requests: int, interval_s: float,
    label_maturity_s: float, keep_warm_s: float, label_tolerance: float = 1.0,
) -> Plan:  # fmt: skip
    """A plan with the same bake for every step but the last; weights in percent."""
    steps = tuple(
        Step(round(weight * 100), bake_s, min_requests) if weight < 100 else Step(BUCKETS)
        for weight in weights
    )
    metrics = default_metrics(label_tolerance)
    return Plan(steps, metrics, interval_s, label_maturity_s, keep_warm_s)
