"""What one run cost: its attempts, failed ones included, its evaluation, its idle time.

A version's training can be more: it takes over what failed before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.domain.measures import Measures, by_tier, measures

if TYPE_CHECKING:
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.adapters.sql.runs import RunStore


@dataclass(frozen=True, slots=True)
class RunCost:
    """A run's total in ledger units; None is unknown.

    ``cost.flop`` sums the ``flop_windows`` of all ``windows`` that knew theirs. ``recorded_us``
    is when the newest charge was recorded: the same total has the same moment.
    """

    cost: Measures
    energy_by_tier_mj: Mapping[str, int]
    windows: int
    flop_windows: int
    recorded_us: int


class RunAccounts:
    """Accounts of single runs."""

    def __init__(self, runs: "RunStore", reports: "ReportStore") -> None:
        self._runs = runs
        self._reports = reports

    def cost(self, model: str, run_id: str) -> RunCost | None:
        """What a run of a model cost by now; None when nothing of it was posted."""
        charged = self._runs.charged(model, run_id)
        if charged is None:
            return None
        used = [u for u in self._reports.used([model]).get(model, ()) if u.run_id == run_id]
        known = [u.flop for u in used if u.flop is not None]
        return RunCost(
            cost=measures(charged.amounts, sum(known) if known else None),
            energy_by_tier_mj=by_tier(charged.amounts),
            windows=sum(u.windows for u in used),
            flop_windows=sum(u.flop_windows for u in used),
            recorded_us=charged.recorded_us,
        )

    def charged_since(self, seq: int) -> list[tuple[str, str]]:
        """Model and run of every run that was charged after the entry with this number."""
        return self._runs.charged_since(seq)
