"""What a planned training run will cost, and what the budgets say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from steelyard.domain.budget import BudgetState
from steelyard.domain.estimate import (
    Draw,
    Pace,
    PastWindow,
    Priced,
    Spread,
    afterwards,
    budget_after,
    draw,
    paces,
    predicted,
    priced,
)
from steelyard.domain.measures import Measures
from steelyard.domain.metering import EnergyMethod, Resource
from steelyard.services.budgets import BudgetLine, Budgets
from steelyard.services.outlooks import Scope

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.past_runs import PastRunStore
    from steelyard.domain.rate_book import RateBook
    from steelyard.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that is planned: whose, on what, and how much work.

    ``flop`` is None where it could not be counted; then ``items`` (rows trained on) are the
    work. ``probe`` is the pace that a short measurement found, for when nothing was run before.
    """

    model: str
    team: str | None
    devices: int
    device_model: str
    price_sku: str
    region: str | None
    items: int
    flop: int | None
    probe: Pace | None = None


@dataclass(frozen=True, slots=True)
class BudgetImpact:
    """A budget, how it stands now, and how it would stand with the run; None: unknown."""

    line: BudgetLine
    amount: int | None
    after: BudgetState | None
    reason: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, each figure None where it is unknown.

    ``wall_us`` spans the predictions; ``low``, ``typical`` and ``high`` are what these times are
    charged. ``time_basis`` says where the pace is from, ``runs`` on how many past runs it rests;
    ``cited`` names the prices and coefficients by measure.
    """

    wall_us: Spread | None
    low: Measures
    typical: Measures
    high: Measures
    runs: int
    time_basis: str
    energy_tier: EnergyMethod
    cited: Mapping[str, tuple[str, ...]]
    budgets: tuple[BudgetImpact, ...]


class Estimates:
    """The use case of knowing the cost before the run."""

    def __init__(
        self, past: "PastRunStore", catalog: "CatalogStore", budgets: Budgets, clock: "Clock"
    ) -> None:
        self._past = past
        self._catalog = catalog
        self._budgets = budgets
        self._clock = clock

    def of(self, plan: Plan, runs: Sequence[str], others: Sequence[str] = ()) -> Estimate:
        """The estimate of a plan; ``runs`` are past runs of the same recipe, the newest first.

        ``others``, runs of any recipe, tell a probe how long runs take to start and to end.
        """
        windows = self._past.windows(runs, plan.device_model)
        seen, basis = _seen(plan, windows)
        if not seen and plan.probe is not None:
            windows = self._past.windows(others, plan.device_model)
            seen, basis = _probed(plan.probe, windows)
        work = plan.items if plan.flop is None else plan.flop
        trained, after = predicted(work, plan.devices, seen), afterwards(windows)
        now = self._clock.now_us()
        book, drawn = self._catalog.rate_book(now), draw(windows)
        spent = [_priced(book, plan, now, trained, after, drawn, end) for end in range(3)]
        low, typical, high = spent
        return Estimate(
            _sum(trained, after), low.measures, typical.measures, high.measures,
            runs=_runs(windows), time_basis=basis,
            energy_tier=typical.tier, cited=typical.cited,
            budgets=tuple(self._impacts(plan, typical.measures)),
        )  # fmt: skip

    def measured(self, run_id: str, device_model: str) -> int | None:
        """The wall time that a run was booked with, failed attempts included; None without any."""
        windows = self._past.windows([run_id], device_model)
        return sum(w.wall_us for w in windows) or None

    def _impacts(self, plan: Plan, found: Measures) -> list[BudgetImpact]:
        team = plan.team or self._budgets.owners().get(plan.model)
        scopes = [Scope("model", plan.model), *([Scope("team", team)] if team else [])]
        return [
            _impact(line, getattr(found, line.measure))
            for scope in scopes
            for line in self._budgets.lines(scope)
        ]


def _priced(
    book: "RateBook", plan: Plan, now_us: int, trained: Spread | None, after: Spread | None,
    drawn: Draw, end: int,
) -> Priced:  # fmt: skip
    """What one end of the predictions is charged: the workers' time, then the driver's."""
    if trained is None:
        return Priced(Measures())
    group = Resource("train/planned/1", "train_worker", plan.device_model, plan.devices, 1,
                     plan.price_sku, now_us, plan.region, plan.team)  # fmt: skip
    whole = priced(group, _ends(trained)[end], book.valuation(group, now_us), drawn)
    if after is None:
        return whole
    driver = Resource("evaluate/planned", "train_worker", plan.device_model, 1, 1,
                      plan.price_sku, now_us, plan.region, plan.team)  # fmt: skip
    rest = priced(driver, _ends(after)[end], book.valuation(driver, now_us), Draw())
    return Priced(whole.measures + rest.measures, whole.cited, whole.tier)


def _seen(plan: Plan, windows: Sequence[PastWindow]) -> tuple[list[Pace], str]:
    """The paces to predict with, and where they are from."""
    found = paces(windows, by_flop=plan.flop is not None)
    if found:
        runs = _runs(windows)
        attempts = f", {len(found)} attempts" if len(found) != runs else ""
        return found, f"calibrated on {runs} past run(s){attempts} of this recipe and device"
    return [], "unknown: no run of this recipe in the ledger, and no probe"


def _probed(probe: Pace, windows: Sequence[PastWindow]) -> tuple[list[Pace], str]:
    """A probe's pace with what other runs took to start."""
    basis = "a short probe on this machine, no run of this recipe in the ledger; start, export and "
    overheads = [one.overhead_us for one in paces(windows, by_flop=True) if one.overhead_us]
    if not overheads:
        return [probe], f"{basis}evaluation not included"
    found = [Pace(probe.per_device_s, overhead) for overhead in overheads]
    return found, f"{basis}evaluation as in {_runs(windows)} run(s) of other recipes"


def _runs(windows: Sequence[PastWindow]) -> int:
    return len({w.run_id for w in windows if w.attempt is not None})


def _ends(span: Spread) -> tuple[int, int, int]:
    return span.low, span.typical, span.high


def _sum(one: Spread | None, other: Spread | None) -> Spread | None:
    if one is None or other is None:
        return one
    return Spread(one.low + other.low, one.typical + other.typical, one.high + other.high)


def _impact(line: BudgetLine, amount: int | None) -> BudgetImpact:
    warn_at = Fraction(line.warn_bp, 10_000)
    after = budget_after(line.limit, warn_at, line.spent, line.expected, amount)
    if after is None:
        what = "the run's amount" if amount is None else "what was spent"
        return BudgetImpact(line, amount, None, f"{what} is unknown")
    return BudgetImpact(line, amount, after.state, after.reason)
