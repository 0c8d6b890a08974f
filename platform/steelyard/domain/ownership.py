"""Which team a model belongs to, day by day."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Ownership:
    """From ``valid_from_us`` on, a model belongs to a team, as recorded."""

    model: str
    team: str
    valid_from_us: int
    recorded_us: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days, both included, over which no model changed hands."""

    first_day: int
    last_day: int
    teams: tuple[tuple[str, str], ...]

    def models(self, team: str) -> frozenset[str]:
        """What a team owns in these days."""
        return frozenset(model for model, owner in self.teams if owner == team)


def teams_on(records: Sequence[Ownership], day: int) -> dict[str, str]:
    """Model -> team at the start of a day; ``records`` in order of validity, then of recording.

    Of several records in force the last one counts.
    """
    return {r.model: r.team for r in records if r.valid_from_us <= day * DAY_US}


def stretches(records: Sequence[Ownership], first_day: int, last_day: int) -> list[Stretch]:
    """The days from ``first_day`` to ``last_day``, cut where a model changes hands."""
    starts = {-(-r.valid_from_us // DAY_US) for r in records}
    cuts = [first_day, *sorted(s for s in starts if first_day < s <= last_day), last_day + 1]
    return [
        Stretch(first, after - 1, tuple(sorted(teams_on(records, first).items())))
        for first, after in pairwise(cuts)
    ]
