"""What a run may take, as a pure rule."""

from dataclasses import dataclass

from steelyard_workflows.workflow import Limits


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has taken so far: wall seconds, US dollars, kilowatt-hours; None is unknown."""

    time_s: float = 0.0
    cost_usd: float | None = None
    energy_kwh: float | None = None


def exceeded(limits: Limits, spent: Spent) -> str | None:
    """Which limit is reached, in words; None while there is room. The unknown reaches nothing.

    >>> exceeded(Limits(time_s=60, cost_usd=1.5), Spent(12.0, 1.5))
    'limits.cost_usd: 1.5 of 1.5 USD'
    """
    found = (
        ("time_s", spent.time_s, limits.time_s, "s"),
        ("cost_usd", spent.cost_usd, limits.cost_usd, "USD"),
        ("energy_kwh", spent.energy_kwh, limits.energy_kwh, "kWh"),
    )
    for name, value, limit, unit in found:
        if value is not None and limit is not None and value >= limit:
            return f"limits.{name}: {value:.4g} of {limit:.4g} {unit}"
    return None
