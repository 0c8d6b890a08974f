"""Rollouts: start and change them as a person asks; ``turns`` is what the controller does.

Every act is one transaction with an event. The controller's turn is: look, ask the pure
``advance``, write down what should be (``intent``), and only then touch the edge; what the edge
was seen to use is confirmed afterwards. A crash between any two of these repeats the turn.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from steelyard.domain.candidates import Region, regions, together
from steelyard.domain.errors import Conflict
from steelyard.domain.promotion import Change, previous_version, stable_version
from steelyard.domain.rollout import Kind, Rollout
from steelyard.domain.rollout_plan import Plan, Step, check_plan
from steelyard.domain.rollout_record import Stored
from steelyard.domain.rollout_verbs import Verb, act
from steelyard.domain.traffic import BUCKETS
from steelyard.services.promotions import OVERRIDE, Promotions
from steelyard.services.rollout_evidence import Evidences
from steelyard.services.rollout_moves import meant, opened, write
from steelyard.services.rollout_turns import Turns

if TYPE_CHECKING:
    from steelyard.adapters.sql.arms import ArmStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.gates import Gates
    from steelyard.services.served_versions import ServedVersions

ATTEMPTS = 5
AT_ONCE = Plan(steps=(Step(BUCKETS),), metrics=(), keep_warm_s=300.0)
"""The plan of a first deployment and of an undo: readiness, then all traffic."""


class Rollouts:
    """The use cases of progressive delivery."""

    def __init__(
        self, store: "RolloutStore", arms: "ArmStore", registry: "Registry", gates: "Gates",
        clock: "Clock", served: "ServedVersions",
    ) -> None:  # fmt: skip
        self.store = store
        self._registry = registry
        self._gates = gates
        self._clock = clock
        self._promotions = Promotions(store, served, clock)
        self.turns = Turns(store, Evidences(store, arms), self._promotions, clock)

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
        self._promotions.complete(model)
        current = self.stable(model)
        if current is not None:
            raise Conflict(
                f"{model} serves version {current} already.",
                f"Roll {model}/{version} out: steelyard rollout start {model}/{version}.",
            )
        change = self._admit(model, version, Change(actor, "deploy"), override)
        whole = Region(version, 0, BUCKETS)
        return self._begin("first", model, None, [whole], AT_ONCE, [change])[0]

    def start(
        self, model: str, version: int, plan: Plan, actor: str, override: str | None = None,
        reason: str = "",
    ) -> Rollout:  # fmt: skip
        """Roll a version out beside stable.

        ``override`` is an operator's reason to pass over the gates, ``reason`` why it begins.

        Raises:
            InvalidInput: the plan cannot be carried out.
            NotFound, Refused: the version does not exist or does not pass its gates.
            Conflict: nothing is deployed, the version is stable already, or a rollout is open.
        """
        together = self.start_together(model, (version,), plan, actor, override, reason)
        return together[0]

    def start_together(
        self, model: str, versions: Sequence[int], plan: Plan, actor: str,
        override: str | None = None, reason: str = "",
    ) -> list[Rollout]:  # fmt: skip
        """Roll several versions out beside stable at once: those of the plan, or these.

        Each is a rollout of its own in a region of the buckets of its own; of those that prove
        good the plan's winner takes all traffic. Raises as ``start`` does.
        """
        plan = together(plan, versions)
        check_plan(plan)
        for region in regions(plan):
            self._registry.version(model, region.version)
        self._promotions.complete(model)
        current = self.stable(model)
        if current is None:
            raise Conflict(
                f"{model} is not deployed yet.",
                f"First: steelyard deploy {model}/{plan.candidates[0].version}.",
            )
        if any(region.version == current for region in regions(plan)):
            raise Conflict(f"{model}/{current} has all traffic already.", "Nothing to roll out.")
        change = Change(actor, "start", reason)
        changes = [self._admit(model, r.version, change, override) for r in regions(plan)]
        return self._begin("canary", model, current, regions(plan), plan, changes)

    def rollback(self, model: str, actor: str, reason: str) -> Rollout:
        """Back to the last good version: abort what is open, else undo the last promotion.

        Raises:
            Conflict: there is no earlier version that earned all traffic.
        """
        self._promotions.complete(model)
        first = self.store.open_rollout(model)
        if first is not None and first.rollout.kind == "canary":
            aborted = self._act(model, opened, "abort", actor, reason)
            if aborted:
                return aborted[0]
            # It ended before anybody could abort it: with all traffic, or without.
            self._promotions.complete(model)
            if self.stable(model) == first.rollout.stable:
                return meant(model, first.rollout.candidate, self.store.rollouts(model)).rollout
        history = self.store.promotions(model)
        current, earlier = stable_version(history), previous_version(history)
        if current is None or earlier is None:
            raise Conflict(
                f"{model} has no earlier version that had all traffic.",
                "A rollback goes to the last good version; there is none yet.",
            )
        # It earned its traffic before: what its gates say now is no reason to stay on a worse one.
        whole = Region(earlier, 0, BUCKETS)
        return self._begin("undo", model, current, [whole], AT_ONCE, [Change(actor, "undo")])[0]

    def _admit(self, model: str, version: int, change: Change, override: str | None) -> Change:
        """The change, as it may be made: by its own verb, or as an override with its reason."""
        overridden = self._gates.admit(model, version, override)
        return replace(change, verb=OVERRIDE, evidence=overridden) if overridden else change

    def _begin(
        self, kind: Kind, model: str, stable: int | None, where: Sequence[Region], plan: Plan,
        changes: Sequence[Change], lineage: str | None = None,
    ) -> list[Rollout]:  # fmt: skip
        names = [uuid.uuid4().hex[:12] for _ in where]
        now = self._clock.now_us()
        begun = [
            Rollout(
                name, model, kind, stable, region.version, plan, lineage=lineage or names[0],
                created_us=now, created_by=change.actor,
                reason=change.evidence or "waiting for the controller",
                offset_bp=region.offset_bp, max_weight_bp=region.max_weight_bp,
            )
            for name, region, change in zip(names, where, changes, strict=True)
        ]  # fmt: skip
        stored = self.store.create(list(zip(begun, changes, strict=True)))
        return [one.rollout for one in stored]

    def act(
        self, model: str, verb: Verb, actor: str, reason: str = "", version: int | None = None
    ) -> Rollout:
        """Apply a person's verb to the newest rollout, whatever the controller does meanwhile.

        ``version`` says whose, where several candidates are compared.

        Raises:
            NotFound: the model was never deployed, or that version never rolled out.
            Conflict: the verb does not fit the rollout's condition, or nobody says which rollout.
        """
        return self._act(model, lambda found: [meant(model, version, found)], verb, actor, reason)[
            0
        ]

    def _act(
        self, model: str, pick: Callable[[Sequence[Stored]], Sequence[Stored]], verb: Verb,
        actor: str, reason: str,
    ) -> list[Rollout]:  # fmt: skip
        for attempt in range(ATTEMPTS):
            found, now = self.store.rollouts(model), self._clock.now_us()
            chosen = pick(found)
            afters = {s.rollout.rollout_id: act(verb, s.rollout, now, reason) for s in chosen}
            if all(afters[s.rollout.rollout_id] == s.rollout for s in chosen):
                return list(afters.values())
            changes = dict.fromkeys(afters, Change(actor, verb))
            try:
                saved = write(self.store, opened(found), afters, changes, actor, now)
            except Conflict:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            for one in saved:
                if one.condition == "healthy":
                    self._promotions.record(one)
            return [one for one in saved if one.rollout_id in afters]
        raise AssertionError("unreachable")

    def retry(
        self, model: str, actor: str, override: str | None = None, version: int | None = None
    ) -> Rollout:
        """Start a rollout that was aborted once more: same plan, and each unit where it was.

        ``version`` says whose, where several candidates are compared.

        Raises:
            Conflict: the newest rollout of the model, or of that version, was not aborted.
        """
        self._promotions.complete(model)
        last = meant(model, version, self.store.rollouts(model)).rollout
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
        region = Region(last.candidate, last.offset_bp, last.max_weight_bp)
        again = self._begin(
            "canary", model, last.stable, [region], last.plan, [change], last.lineage
        )
        return again[0]

    def confirm(self, model: str, generation: int, token: int) -> None:
        """The edge was seen to use this weight table: the bake of its steps starts now.

        Raises:
            Conflict: another controller took over.
        """
        self.store.confirm(model, generation, self._clock.now_us(), token)

    def complete_promotions(self, token: int) -> None:
        """Record promotions that a crash left out: a healthy rollout without its history row.

        Raises:
            Conflict: another controller took over.
        """
        for stored in self.store.fleet.without_promotion():
            self._promotions.record(stored.rollout, token)
