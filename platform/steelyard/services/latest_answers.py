"""What both arms of open rollouts answered of late, looked up for all of them at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steelyard.domain.latest_answers import (
    Answers,
    Counted,
    Window,
    canary_requests,
    copies_answered,
    counted_on,
    newest_failed,
    recent,
    window,
)
from steelyard.domain.rollout import SECOND_US, Recent, Rollout, Stretch

if TYPE_CHECKING:
    from steelyard.adapters.sql.arms import ArmStore


class LatestAnswers:
    """Remembers what was counted for good; losing that costs one look at everything."""

    def __init__(self, arms: "ArmStore") -> None:
        self._arms = arms
        self._counted: dict[str, Counted] = {}
        self._answers: dict[str, list[Answers]] = {}

    def look(self, rollouts: Sequence[Rollout], now_us: int, settle_us: int) -> None:
        """Look at what these rollouts' arms answered; others are forgotten.

        ``settle_us`` is how long records may take to arrive.
        """
        before = {one.rollout_id: self._counted.get(one.rollout_id, Counted()) for one in rollouts}
        groups: dict[Window, list[Rollout]] = {}
        for one in rollouts:
            interval_us = int(one.plan.interval_s * SECOND_US)
            found = window(before[one.rollout_id], now_us, interval_us, settle_us)
            groups.setdefault(found, []).append(one)
        self._counted, self._answers = {}, {}
        for looked, some in groups.items():
            answers = self._arms.latest([one.rollout_id for one in some], looked)
            for one in some:
                own = self._answers[one.rollout_id] = answers.get(one.rollout_id, [])
                row = self._row(one, before[one.rollout_id], looked, own)
                known = counted_on(before[one.rollout_id], looked, own, row)
                self._counted[one.rollout_id] = known

    def requests(self, rollout: Rollout) -> tuple[int, int]:
        """Canary requests of this step and of all; before the first of them, answered copies."""
        known, answers = self._counted[rollout.rollout_id], self._answers[rollout.rollout_id]
        if rollout.plan.steps[rollout.step].weight_bp == 0:
            copies = copies_answered(known, answers)
            return copies, copies
        return canary_requests(known, answers, rollout.generation)

    def recent(self, rollout: Rollout) -> Recent:
        """What the guard looks at."""
        known = self._counted[rollout.rollout_id]
        return Recent(*known.row, *recent(self._answers[rollout.rollout_id]))

    def _row(
        self, rollout: Rollout, known: Counted, looked: Window, answers: Sequence[Answers]
    ) -> tuple[int, int]:
        """Failures in a row: each of them is looked at only where the newest answer is one."""
        failed = newest_failed(answers)
        if failed is None:
            return known.row if looked.since_us else (0, 0)
        if not failed:
            return (0, 0)
        return self._arms.failures_in_a_row(Stretch(
            rollout.model, rollout.candidate, rollout.stable or rollout.candidate, rollout.lineage,
            rollout.created_us, int(rollout.plan.interval_s * SECOND_US), looked.recent_us,
            looked.until_us, *rollout.buckets,
        ))  # fmt: skip
