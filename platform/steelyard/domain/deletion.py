"""Whether a version may leave the registry: what still stands on it, and until when.

Deleting takes a version out of the registry alone; everything recorded of it stays.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from steelyard.domain.lineage import ancestors
from steelyard.domain.quantities import SECOND_US

DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a version stays, and from when it could go (µs UTC; None: that depends on people)."""

    why: str
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """A version was taken out of the registry: who, when and why; its digest says what it was."""

    at_us: int
    model: str
    version: int
    sha256: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Uses:
    """What a model's versions are needed for at one moment.

    ``roles``: version -> why it runs. ``warm_until_us``: when a warm one stops by itself.
    ``parents``: version -> what it was made from. ``aliases``: the registry's names.
    ``last_us``: when the version in question was last asked, among the predictions that are kept,
    ``retention_days`` how long they are; 0 is for ever.
    """

    roles: Mapping[int, str]
    previous: int | None
    parents: Mapping[int, int | None]
    aliases: Collection[str] = ()
    warm_until_us: int | None = None
    last_us: int | None = None
    retention_days: int = 0


def obstacles(version: int, uses: Uses, now_us: int) -> tuple[Obstacle, ...]:
    """Everything that speaks against deleting a version; empty when it may go."""
    return tuple(_found(version, uses, now_us))


def _found(version: int, uses: Uses, now_us: int) -> Iterable[Obstacle]:
    role = uses.roles.get(version)
    if role is not None:
        until_us = uses.warm_until_us if role == "warm" else None
        yield Obstacle(_ROLES.get(role, f"it runs as {role}"), until_us)
    if version == uses.previous:
        yield Obstacle("a rollback would return to it")
    served = _served_descendants(version, uses)
    if served:
        names = ", ".join(str(number) for number in served)
        yield Obstacle(f"version {names} in service was made from it and is measured against it")
    if uses.aliases:
        yield Obstacle(f"the registry names it {', '.join(sorted(uses.aliases))}")
    if uses.last_us is None:
        return
    if not uses.retention_days:
        yield Obstacle("its predictions are kept for ever: the model has no retention_days")
        return
    until_us = uses.last_us + uses.retention_days * DAY_US
    if until_us > now_us:
        yield Obstacle(f"its predictions are kept for {uses.retention_days} days", until_us)


_ROLES = {
    "stable": "it serves, or is what an open rollout would return to",
    "candidate": "it is in an open rollout",
    "shadow": "it answers copies of requests, as a shadow",
    "warm": "it is kept warm for a quick rollback",
}


def _served_descendants(version: int, uses: Uses) -> list[int]:
    """The versions in service, or to roll back to, that descend from this one."""
    lines = {str(n): [] if p is None else [str(p)] for n, p in uses.parents.items()}
    in_service = {*uses.roles} | ({uses.previous} if uses.previous is not None else set())
    return sorted(n for n in in_service if str(version) in ancestors(lines, str(n)))
