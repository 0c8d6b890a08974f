"""An estimate in words: each figure with what it rests on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steelyard.domain import figures
from steelyard.domain.measures import TIERS
from steelyard.services import words
from steelyard.services.estimates import BudgetImpact, Estimate

if TYPE_CHECKING:
    from steelyard_workflows.estimates.forecast import Forecast

PRICED = ("cost_nano", "energy_mj", "carbon_ug", "embodied_ug")
UNKNOWN = {
    "cost_nano": "no price is declared for these devices",
    "energy_mj": "no power is declared for these devices",
    "carbon_ug": "no region, or no grid intensity for it (setting region)",
    "embodied_ug": "no embodied carbon is declared for these devices",
}  # fmt: skip


def lines(found: "Forecast") -> list[str]:
    """The estimate, a line a figure, and a line for each limit and budget that it touches."""
    planned, estimate = found.work, found.estimate
    early = (
        f"; early stopping may end it after {planned.least_epochs}"
        if planned.least_epochs < planned.epochs
        else ""
    )
    flop = figures.flops(planned.flop)
    if planned.flop is not None and planned.flop_least != planned.flop:
        flop += f" at most, {figures.flops(planned.flop_least)} at least"
    return [
        f"Estimate for {planned.epochs} epoch(s), {planned.items:,} rows{early}:",
        _row("FLOPs", flop, planned.flop_basis),
        _row("time", _time(estimate), estimate.time_basis),
        *(_row(words.NAMES[name], _spread(estimate, name), _basis(estimate, name))
          for name in PRICED),
        *(f"  {line}" for line in found.limits),
        *map(_budget, estimate.budgets),
    ]  # fmt: skip


def comparison(told: Mapping[str, Any]) -> list[str]:
    """Estimate and measurement side by side, with their factor."""
    names = {"flop": "FLOPs", "wall_us": "time", **words.NAMES}
    say = {"flop": figures.flops, "wall_us": figures.duration, **words.UNITS}
    rows = [
        _row(names[name], f"{say[name](told['estimate'][name])} estimated, "
             f"{say[name](told['measured'][name])} measured", f"factor {factor:.3g}")
        for name, factor in told["factor"].items()
    ]  # fmt: skip
    return ["Estimate / measured:", *rows] if rows else []


def _row(name: str, value: str, basis: str) -> str:
    return f"  {name}: {value} ({basis})"


def _time(estimate: Estimate) -> str:
    wall = estimate.wall_us
    if wall is None:
        return figures.UNKNOWN
    return _range(figures.duration, wall.low, wall.typical, wall.high)


def _spread(estimate: Estimate, name: str) -> str:
    ends = (getattr(one, name) for one in (estimate.low, estimate.typical, estimate.high))
    low, typical, high = ends
    return _range(words.UNITS[name], low, typical, high)


def _range(say: Any, low: int | None, typical: int | None, high: int | None) -> str:
    text = str(say(typical))
    return text if low == high else f"{text} [{say(low)}, {say(high)}]"


def _basis(estimate: Estimate, name: str) -> str:
    if estimate.wall_us is None:
        return "the time is unknown"
    if getattr(estimate.typical, name) is None:
        return UNKNOWN[name]
    cited = ", ".join(one[:12] for one in estimate.cited.get(name, ()))
    what = {
        "cost_nano": "price", "energy_mj": TIERS.get(estimate.energy_tier, "unknown method"),
        "carbon_ug": "location-based", "embodied_ug": "share of the devices' life",
    }[name]  # fmt: skip
    return f"{what}; rows {cited}" if cited else what


def _budget(one: BudgetImpact) -> str:
    line, say = one.line, words.UNITS[one.line.measure]
    after = one.after or "unknown"
    return (
        f"  budget of {line.scope_kind} {line.scope}, {words.NAMES[line.measure]} per "
        f"{line.period}: {say(line.spent)} of {say(line.limit)} spent, {line.state}; with this "
        f"run: {after} ({one.reason})"
    )
