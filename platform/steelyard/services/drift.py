"""What is done about aliases that others moved: rollouts wait, an operator adopts or restores."""

from typing import TYPE_CHECKING

from steelyard.domain.aliases import PREVIOUS, AliasDrift, held
from steelyard.domain.errors import Conflict, NotFound, Refused
from steelyard.domain.promotion import CHAMPION, Change
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan
from steelyard.services.aliases import Aliases

if TYPE_CHECKING:
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry
    from steelyard.services.rollouts import Rollouts


class Drifts:
    """The use cases of drifts."""

    def __init__(
        self, aliases: Aliases, rollouts: "Rollouts", registry: "Registry", clock: "Clock"
    ) -> None:
        self._aliases = aliases
        self._rollouts = rollouts
        self._registry = registry
        self._clock = clock

    def hold(self, token: int) -> list[Rollout]:
        """Pause the open rollouts that move while a drift stands that nobody knew of.

        Raises:
            Conflict: another controller took over, or a person was faster; the next turn looks.
        """
        standing = self._aliases.standing()
        if not standing:
            return []
        now, store, paused = self._clock.now_us(), self._rollouts.store, []
        for stored in store.all_open():
            drifts = [one for one in standing if one.model == stored.rollout.model]
            after = held(stored.rollout, drifts, now)
            if after != stored.rollout:
                change = Change("controller", "drift")
                store.save(stored, after, change, now, token=token)
                paused.append(after)
        return paused

    def restore(
        self, model: str, actor: str, reason: str, alias: str | None = None
    ) -> list[AliasDrift]:
        """Our history is right: set its aliases back in the registry. No traffic moves.

        Raises:
            NotFound: nothing drifts.
            Refused: a version of ours is not in the registry any more.
        """
        drifts = self._standing(model, alias)
        for drift in drifts:
            self._check_there(drift)
        for drift in drifts:
            self._aliases.point(model, drift.alias, drift.expected)
        return [self._aliases.record(drift, "restored", actor, reason) for drift in drifts]

    def adopt(
        self, model: str, plan: Plan, actor: str, reason: str, alias: str | None = None,
        override: str | None = None,
    ) -> Rollout:  # fmt: skip
        """The registry is right: begin an ordinary rollout to the version that it names.

        Without ``alias`` it is the champion's, if that drifts, else the challenger's.

        Raises:
            NotFound: nothing drifts.
            Conflict: the alias names no version to roll out, or a rollout is open.
            Refused: the version does not pass its gates.
        """
        drift = _adoptable(self._standing(model, alias))
        assert drift.found is not None
        rollout = self._rollouts.start(model, drift.found, plan, actor, override)
        said = f"rollout {rollout.rollout_id}" + (f": {reason}" if reason else "")
        self._aliases.record(drift, "adopted", actor, said)
        return rollout

    def _standing(self, model: str, alias: str | None) -> list[AliasDrift]:
        found = [d for d in self._aliases.standing(model) if alias in (None, d.alias)]
        if not found:
            what = f"alias {alias}" if alias else "aliases"
            raise NotFound(
                f"No drift of {model}'s {what} is known.",
                "The controller looks every few seconds; see: steelyard models show.",
            )
        return found

    def _check_there(self, drift: AliasDrift) -> None:
        if drift.expected is None:
            return
        try:
            self._registry.version(drift.model, drift.expected)
        except NotFound as gone:
            raise Refused(
                f"The alias {drift.alias} cannot be set back: {drift.model}/{drift.expected} is "
                "not in the registry any more. It serves on from its cached file.",
                f"Roll another version out: steelyard rollout start {drift.model}/VERSION.",
            ) from gone


def _adoptable(drifts: list[AliasDrift]) -> AliasDrift:
    """The drift whose version is meant, of at least one."""
    named = sorted(
        (d for d in drifts if d.found is not None and d.alias != PREVIOUS),
        key=lambda drift: drift.alias != CHAMPION,
    )
    if not named:
        told = "; ".join(drift.summary for drift in drifts)
        raise Conflict(
            f"There is no version to adopt for {drifts[0].model}: {told}.",
            f"Set the alias back: steelyard rollout restore {drifts[0].model}.",
        )
    return named[0]
