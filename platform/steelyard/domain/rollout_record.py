"""A rollout as it is kept, and what a change makes of it."""

from dataclasses import dataclass

from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Stored:
    """A rollout and the row version that a change must name."""

    rollout: Rollout
    row_version: int


@dataclass(frozen=True, slots=True)
class Move:
    """What a rollout becomes, by whom."""

    before: Stored
    after: Rollout
    change: Change
