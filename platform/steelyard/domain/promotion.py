"""Who changed what, when and why: verbs on a rollout and moves of an alias."""

from dataclasses import dataclass


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
