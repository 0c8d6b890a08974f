"""The aliases of a model in the registry: projections of our own history, never a way to route.

What each should be follows from promotions and open rollouts. What the registry says instead is
either still to be written, or somebody else wrote it there: that is drift.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.domain.advance import paused
from steelyard.domain.promotion import CHAMPION, Promotion, previous_version, stable_version
from steelyard.domain.rollout import Rollout

CHALLENGER = "challenger"
"""The alias of an open rollout's candidate."""
PREVIOUS = "previous"
"""The alias of the version that a rollback returns to."""
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)
DriftVerb = Literal["found", "adopted", "restored", "settled"]
Outcome = Literal["agrees", "write", "known", "drifted"]


@dataclass(frozen=True, slots=True)
class Mirror:
    """What we know of one alias: where it was ``seen`` as ours, and where we meant it to go since.

    Either may be None: nowhere. After a crash nobody knows whether the latter was written.
    """

    seen: int | None = None
    intended: int | None = None


@dataclass(frozen=True, slots=True)
class AliasDrift:
    """Somebody else moved an alias, or its end; a row of a history that only grows.

    ``expected`` is the version of our history, ``found`` that of the registry; None: nowhere.
    ``found`` and ``adopted`` (a rollout to that version was started) stand, until somebody
    ``restored`` the alias or it ``settled`` because both agree again.
    """

    at_us: int
    model: str
    alias: str
    verb: DriftVerb
    expected: int | None
    found: int | None
    actor: str
    reason: str

    @property
    def stands(self) -> bool:
        """Whether the registry still says something else."""
        return self.verb in ("found", "adopted")

    @property
    def summary(self) -> str:
        """One line for people."""
        there = "nowhere" if self.found is None else f"at version {self.found}"
        here = "none" if self.expected is None else f"version {self.expected}"
        return f"the registry's alias {self.alias} points {there}, our history says {here}"


def projected(
    history: Sequence[Promotion], rollouts: Iterable[Rollout]
) -> dict[str, int | None]:  # fmt: skip
    """Where each alias of a model should point; None: nowhere.

    ``history`` is oldest first. Of several open rollouts the challenger is that of the largest
    share, and of equal ones the lower version.
    """
    canaries = [r for r in rollouts if r.is_open and r.kind == "canary"]
    ranked = sorted(canaries, key=lambda r: (-r.max_weight_bp, r.candidate))
    return {
        CHAMPION: stable_version(history),
        CHALLENGER: ranked[0].candidate if ranked else None,
        PREVIOUS: previous_version(history),
    }


def compare(
    expected: int | None, found: int | None, mirror: Mirror, newest: AliasDrift | None
) -> Outcome:
    """What is to be done about one alias, where ``newest`` is the last row of its history.

    Nothing, as it ``agrees``; ``write`` ours, as only our history moved; nothing more, as the
    drift is ``known``; or record that it ``drifted``.
    """
    if found == expected:
        return "agrees"
    known = newest is not None and newest.stands and newest.found == found
    if known and newest is not None and newest.expected == expected:
        return "known"
    if found in (mirror.seen, mirror.intended):
        return "write"
    return "known" if known else "drifted"


def held(rollout: Rollout, drifts: Iterable[AliasDrift], now_us: int) -> Rollout:
    """A rollout that moves stops while the registry says something that nobody decided.

    One that began, or was resumed, after the drift was found goes on: somebody knew.
    """
    since_us = max(rollout.created_us, rollout.resumed_us or 0)
    unseen = [d for d in drifts if d.verb == "found" and d.at_us > since_us]
    if not unseen or rollout.condition != "progressing":
        return rollout
    return paused(rollout, "drift", f"paused: {unseen[0].summary}", now_us)
