"""The registry's aliases follow our history; whoever moves one there is found out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steelyard.domain.aliases import AliasDrift, DriftVerb, Mirror, compare, projected
from steelyard.domain.errors import NotFound, Refused

if TYPE_CHECKING:
    from steelyard.adapters.sql.aliases import AliasStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry

Projections = Mapping[str, Mapping[str, int | None]]
"""Model -> alias -> the version that it should point at; None: nowhere."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One alias at one moment."""

    model: str
    alias: str
    expected: int | None
    found: int | None
    mirror: Mirror
    newest: AliasDrift | None

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.alias


class Aliases:
    """Compares, writes, and keeps the history of what others wrote."""

    def __init__(
        self, store: "AliasStore", rollouts: "RolloutStore", registry: "Registry", clock: "Clock"
    ) -> None:
        self._store = store
        self._rollouts = rollouts
        self._registry = registry
        self._clock = clock

    def mark(self) -> tuple[int, int]:
        """The same again means that no alias has to move."""
        return self._store.mark()

    def projections(self) -> Projections:
        """Where the aliases of all deployed models should point; the registry is not asked."""
        opened = [stored.rollout for stored in self._rollouts.all_open()]
        history = self._rollouts.promotions()
        models = sorted({p.model for p in history} | {r.model for r in opened})
        return {
            model: projected(
                [p for p in history if p.model == model], [r for r in opened if r.model == model]
            )
            for model in models
        }

    def standing(self, model: str | None = None) -> list[AliasDrift]:
        """The drifts that stand, of one model or of all, with what our history says now."""
        found = [
            drift
            for drift in self._store.newest().values()
            if drift.stands and model in (None, drift.model)
        ]
        now = self.projections() if found else {}
        return [replace(one, expected=now.get(one.model, {}).get(one.alias)) for one in found]

    def history(self, model: str) -> list[AliasDrift]:
        """Everything that happened to a model's aliases elsewhere, oldest first."""
        return self._store.history(model)

    def look(self) -> list[AliasDrift]:
        """Ask the registry once, write what only our history moved, record what others did.

        Returns the drifts that are new.

        Raises:
            Unavailable: the registry does not answer.
        """
        said, mirrors = self._registry.all_aliases(), self._store.mirrors()
        newest = self._store.newest()
        found = []
        for model, aliases in self.projections().items():
            for alias, expected in aliases.items():
                key = (model, alias)
                look = _Look(model, alias, expected, said.get(model, {}).get(alias),
                             mirrors.get(key, Mirror()), newest.get(key))  # fmt: skip
                drift = self._reconcile(look)
                found += [drift] if drift else []
        return found

    def point(self, model: str, alias: str, version: int | None) -> None:
        """Move an alias in the registry to where our history has it.

        Raises:
            NotFound: the version is not in the registry any more.
        """
        if version is None:
            self._registry.drop_alias(model, alias)
        else:
            self._registry.set_alias(model, alias, version)
        self._store.mirror((model, alias), Mirror(version, version))

    def record(self, drift: AliasDrift, verb: DriftVerb, actor: str, reason: str) -> AliasDrift:
        """Append what became of a drift, or that it was found."""
        row = replace(drift, at_us=self._clock.now_us(), verb=verb, actor=actor, reason=reason)
        self._store.record(row)
        return row

    def _reconcile(self, look: _Look) -> AliasDrift | None:
        outcome = compare(look.expected, look.found, look.mirror, look.newest)
        if outcome == "agrees":
            self._agrees(look)
        elif outcome == "write":
            return self._write(look)
        elif outcome == "drifted":
            return self._drifted(look)
        return None

    def _agrees(self, look: _Look) -> None:
        if look.mirror != (seen := Mirror(look.expected, look.expected)):
            self._store.mirror(look.key, seen)
        if look.newest is not None and look.newest.stands:
            drift = replace(look.newest, expected=look.expected, found=look.found)
            self.record(drift, "settled", "controller", "the registry and our history agree again")

    def _write(self, look: _Look) -> AliasDrift | None:
        """Say what is meant before it is done: after a crash it is known to be ours."""
        self._store.mirror(look.key, Mirror(look.found, look.expected))
        try:
            self.point(look.model, look.alias, look.expected)
        except NotFound:
            return self._drifted(look)
        return None

    def _drifted(self, look: _Look) -> AliasDrift:
        reason = "somebody moved it in the registry"
        if look.found is None and self._gone(look.model, look.expected):
            reason = f"version {look.expected} was deleted in the registry, its aliases with it"
            # The alias went with its version, so nowhere is where it was left: the next version
            # of our history is written over it.
            self._store.mirror(look.key, Mirror())
        drift = AliasDrift(0, look.model, look.alias, "found", look.expected, look.found, "", "")
        return self.record(drift, "found", "controller", reason)

    def _gone(self, model: str, version: int | None) -> bool:
        if version is None:
            return False
        try:
            self._registry.version(model, version)
        except NotFound:
            return True
        except Refused:  # it is there, whatever else is wrong with it
            return False
        return False
