"""Which team a model belongs to, day by day."""

from collections.abc import Sequence
from dataclasses import dataclass

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Ownership:
    """From ``valid_from_us`` on, a model belongs to a team, as recorded."""

    model: str
    team: str
    valid_from_us: int
    recorded_us: int


@dataclass(frozen=True, slots=True)
class Tenure:
    """Days, both included, over which a model belongs to a team."""

    model: str
    team: str
    first_day: int
    last_day: int


def teams_on(records: Sequence[Ownership], day: int) -> dict[str, str]:
    """Model -> team at the start of a day; ``records`` in order of validity, then of recording.

    Of several records in force the last one counts.
    """
    return {r.model: r.team for r in records if r.valid_from_us <= day * DAY_US}


def tenures(records: Sequence[Ownership], first_day: int, last_day: int) -> list[Tenure]:
    """Who owned which model when, within the days; ``records`` in the order of ``teams_on``."""
    starts: dict[str, dict[int, str]] = {}
    for r in records:
        starts.setdefault(r.model, {})[-(-r.valid_from_us // DAY_US)] = r.team
    found = []
    for model, teams in sorted(starts.items()):
        for (start, team), after in zip(teams.items(), [*teams, last_day + 1][1:], strict=True):
            first, last = max(first_day, start), min(last_day, after - 1)
            if first <= last:
                found.append(Tenure(model, team, first, last))
    return found
