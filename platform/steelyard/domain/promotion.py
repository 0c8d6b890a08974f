"""Who changed what, when and why: verbs on a rollout and moves of an alias."""

from collections.abc import Iterable
from dataclasses import dataclass

CHAMPION = "champion"
"""The alias of the version that has all traffic."""


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a rollout, by which verb, on what evidence (one line for people)."""

    actor: str
    verb: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """An alias moved. ``verb`` is deploy (the first version), promote or undo."""

    at_us: int
    model: str
    alias: str
    from_version: int | None
    to_version: int
    actor: str
    verb: str
    reason: str
    rollout_id: str
    sha256: str


def serving_at(history: Iterable[Promotion], at_us: int) -> Promotion | None:
    """What gave the version that had all traffic at a moment all traffic; None before the first.

    ``history`` is oldest first.
    """
    before = [p for p in history if p.alias == CHAMPION and p.at_us <= at_us]
    return before[-1] if before else None


def stable_version(history: Iterable[Promotion]) -> int | None:
    """The version that last earned all traffic."""
    earned = [p.to_version for p in history if p.alias == CHAMPION]
    return earned[-1] if earned else None


def previous_version(history: Iterable[Promotion]) -> int | None:
    """The last good version before the present one: where a rollback goes.

    Whoever was promoted twice in a row is not his own predecessor.
    """
    earned = [p.to_version for p in history if p.alias == CHAMPION]
    before = [version for version in earned if version != earned[-1]]
    return before[-1] if before else None
