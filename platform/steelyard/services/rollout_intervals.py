"""Closing the intervals of rollouts: each is counted once when it is complete, and kept.

Many may end together; a turn counts those of a few models, and of the others in the next turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steelyard.domain.analysis import GRADED, Metric, MetricName
from steelyard.domain.first_events import Had
from steelyard.domain.rollout import SECOND_US, Rollout, Stretch

if TYPE_CHECKING:
    from steelyard.adapters.sql.arms import ArmStore
    from steelyard.adapters.sql.observations import ObservationStore

MOST_MODELS = 2
"""Whose intervals are counted in one turn."""
MOST_UNITS = 20_000
"""Units that are remembered of a metric; where more had an event they are looked up each time."""


@dataclass
class Remembered:
    """What spares questions about one rollout; losing it costs asking them again.

    ``turn`` is the last in which its intervals were counted. ``ends`` are those of the last
    intervals that were looked at, ``due`` those of intervals that are complete since; ``had`` the
    units that had their event.
    """

    turn: int = 0
    ends: dict[MetricName, int] = field(default_factory=dict)
    due: dict[MetricName, int] = field(default_factory=dict)
    had: dict[MetricName, Had] = field(default_factory=dict)


class Intervals:
    """Counts what is complete, for one controller after the other."""

    def __init__(self, observations: "ObservationStore", arms: "ArmStore") -> None:
        self._observations = observations
        self._arms = arms
        self._remembered: dict[str, Remembered] = {}
        self._chosen: frozenset[str] = frozenset()
        self._turn = 0

    def forget(self) -> None:
        """Remember nothing: another controller may have counted meanwhile."""
        self._remembered = {}
        self._turn = 0

    def look(self, rollouts: Sequence[Rollout], now_us: int, settle_us: int) -> None:
        """Begin a turn: choose the models whose complete intervals it counts.

        They are those that were counted longest ago, so each is counted after some turns; the
        first turn counts all. Candidates of a model are compared, so they are counted together.
        """
        self._turn += 1
        known = {one.rollout_id: self._remembered.get(one.rollout_id) for one in rollouts}
        self._remembered = {name: some or Remembered() for name, some in known.items()}
        waiting: dict[str, int] = {}
        for one in rollouts:
            mine = self._remembered[one.rollout_id]
            mine.due = _due(one, mine, now_us, settle_us)
            if mine.due:
                waiting[one.model] = min(mine.turn, waiting.get(one.model, mine.turn))
        most = MOST_MODELS if self._turn > 1 else None
        self._chosen = frozenset(sorted(waiting, key=waiting.__getitem__)[:most])

    def is_behind(self, rollout: Rollout) -> bool:
        """Whether complete intervals of a rollout wait for another turn."""
        return bool(self._remembered[rollout.rollout_id].due)

    def close(self, rollout: Rollout, now_us: int, token: int) -> bool:
        """Keep the complete intervals of a rollout of this turn; whether there are new ones.

        Raises:
            Conflict: another controller took over.
        """
        if rollout.model not in self._chosen:
            return False
        mine, found = self._remembered[rollout.rollout_id], False
        for metric in rollout.plan.metrics:
            if metric.name in mine.due:
                found |= self._count(rollout, metric, mine, now_us, token)
                mine.ends[metric.name] = mine.due[metric.name]
        mine.turn, mine.due = self._turn, {}
        return found

    def _count(
        self, rollout: Rollout, metric: Metric, mine: Remembered, now_us: int, token: int
    ) -> bool:
        newest = self._observations.newest_start(rollout.rollout_id, metric.name)
        end_us = mine.due[metric.name]
        start_us = rollout.created_us if newest is None else newest + interval_us(rollout)
        if end_us <= start_us:
            return False
        looked = stretch(rollout, start_us, end_us)
        found, had = self._arms.intervals(metric, looked, mine.had.pop(metric.name, None))
        if len(had.units) <= MOST_UNITS:
            mine.had[metric.name] = had
        if found:
            self._observations.keep(rollout.rollout_id, metric.name, found, now_us, token)
        return bool(found)


def interval_us(rollout: Rollout) -> int:
    """How long an interval of a rollout is."""
    return int(rollout.plan.interval_s * SECOND_US)


def stretch(rollout: Rollout, start_us: int, end_us: int) -> Stretch:
    """Whole intervals of a rollout."""
    return Stretch(
        rollout.model, rollout.candidate, rollout.stable or rollout.candidate, rollout.lineage,
        rollout.created_us, interval_us(rollout), start_us, end_us, *rollout.buckets,
    )  # fmt: skip


def _due(rollout: Rollout, mine: Remembered, now_us: int, settle_us: int) -> dict[MetricName, int]:
    """The ends of what is complete and was not looked at, by metric."""
    found = {}
    for metric in rollout.plan.metrics:
        late_s = rollout.plan.label_maturity_s if metric.name in GRADED else 0
        taken_us = now_us - settle_us - int(late_s * SECOND_US) - rollout.created_us
        end_us = rollout.created_us + taken_us // interval_us(rollout) * interval_us(rollout)
        if end_us > rollout.created_us and mine.ends.get(metric.name) != end_us:
            found[metric.name] = end_us
    return found
