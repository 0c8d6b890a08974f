"""What a sweep will take: the estimate of its greatest trial, times its trials; an upper bound."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from steelyard.domain import figures
from steelyard.domain.quantities import KWH_MJ, NANO
from steelyard.services import words
from steelyard.settings import Settings
from steelyard_workflows.estimates.forecast import Forecast, forecast, work
from steelyard_workflows.estimates.wording import PRICED, lines
from steelyard_workflows.sweeps.plan import Trial
from steelyard_workflows.sweeps.prepare import Prepared
from steelyard_workflows.training.limits import Spent, foreseen
from steelyard_workflows.workflow import Limits, Workflow

BASIS = "upper bound: every trial as long as the greatest, none ended early"


@dataclass(frozen=True, slots=True)
class SweepForecast:
    """One trial's estimate, and at most what all take: ledger units, None where unknown.

    ``wall_us`` is with ``at_once`` trials at a time. ``limits`` says what each will do to it.
    """

    trials: int
    at_once: int
    greatest: Trial
    one: Forecast
    flop: int | None
    wall_us: int | None
    most: Mapping[str, int | None]
    limits: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON."""
        most = {"flop": self.flop, "wall_us": self.wall_us, **self.most}
        return {
            "trials": self.trials, "concurrent": self.at_once, "basis": BASIS, "most": most,
            "limits": list(self.limits), "greatest_trial": self.greatest.number,
            "one": self.one.document(),
        }  # fmt: skip


def sweep_forecast(workflow: Workflow, ready: Prepared, settings: Settings) -> SweepForecast:
    """Estimate a sweep; with past runs of its recipe in the ledger no probe is made."""
    assert workflow.sweep is not None
    trials = ready.trials
    at_once = min(workflow.sweep.concurrent, len(trials))
    greatest = max(trials, key=lambda trial: _size(trial, ready))
    unlimited = greatest.workflow.model_copy(update={"limits": Limits()})  # they count for all
    one = forecast(ready.made[greatest.number], unlimited, settings)
    rounds, wall = -(-len(trials) // at_once), one.estimate.wall_us
    longest = times(wall.high if wall else None, rounds)
    most = {name: times(amount, len(trials)) for name, amount in asdict(one.estimate.high).items()
            if name != "flop"}  # fmt: skip
    return SweepForecast(
        len(trials), at_once, greatest, one, times(one.work.flop, len(trials)), longest, most,
        effects(workflow.limits, longest, most),
    )  # fmt: skip


def effects(
    limits: Limits, wall_us: int | None, most: Mapping[str, int | None]
) -> tuple[str, ...]:  # fmt: skip
    """What each limit will do to a sweep that takes so much at most, in words.

    At least it takes next to nothing: every trial may be ended after its first epochs.

    >>> effects(Limits(cost_usd=3), None, {"cost_nano": 4 * NANO, "energy_mj": None})
    ('limits.cost_usd, 3 USD: may end this sweep early',)
    """
    cost_nano, energy_mj = most["cost_nano"], most["energy_mj"]
    highest = Spent(
        None if wall_us is None else wall_us / 1e6,
        None if cost_nano is None else cost_nano / NANO,
        None if energy_mj is None else energy_mj / KWH_MJ,
    )
    return tuple(foreseen(limits, Spent(0.0, 0.0, 0.0), highest, what="sweep"))


def times(amount: int | None, count: int) -> int | None:
    """So many times an amount; unknown stays unknown.

    >>> times(3, 2), times(None, 2)
    (6, None)
    """
    return None if amount is None else amount * count


def _size(trial: Trial, ready: Prepared) -> tuple[int, int]:
    """FLOPs where they are known, else rows, times what is reserved meanwhile."""
    made = ready.made[trial.number]
    found = work(trial.workflow, made.dataset, made.profile)
    return (found.flop or 0, found.items)


def told(found: SweepForecast) -> list[str]:
    """The estimate in lines."""
    most = [("FLOPs", figures.flops(found.flop)), ("time", figures.duration(found.wall_us))]
    most += [(words.NAMES[name], words.UNITS[name](found.most[name])) for name in PRICED]
    return [
        f"Trial {found.greatest.number}, the greatest of {found.trials} "
        f"({found.greatest.words()}):",
        *lines(found.one),
        f"All {found.trials} trials, {found.at_once} at a time, at most ({BASIS}):",
        *(f"  {name}: {value}" for name, value in most),
        *(f"  {line}" for line in found.limits),
    ]


def trial_lines(trials: tuple[Trial, ...]) -> list[str]:
    """The drawn trials as a table of text."""
    keys = sorted(trials[0].values)
    rows = [("trial", *keys), *((str(t.number), *(str(t.values[k]) for k in keys)) for t in trials)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip
