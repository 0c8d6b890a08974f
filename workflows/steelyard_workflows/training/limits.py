"""What a run may take, as a pure rule."""

from collections.abc import Iterator
from dataclasses import dataclass

from steelyard_workflows.workflow import Limits

UNITS = {"time_s": "s", "cost_usd": "USD", "energy_kwh": "kWh"}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has taken so far: wall seconds, US dollars, kilowatt-hours; None is unknown."""

    time_s: float | None = 0.0
    cost_usd: float | None = None
    energy_kwh: float | None = None


def exceeded(limits: Limits, spent: Spent) -> str | None:
    """Which limit is reached, in words; None while there is room. The unknown reaches nothing.

    >>> exceeded(Limits(time_s=60, cost_usd=1.5), Spent(12.0, 1.5))
    'limits.cost_usd: 1.5 of 1.5 USD'
    """
    for name, limit, unit in _given(limits):
        value = getattr(spent, name)
        if value is not None and value >= limit:
            return f"limits.{name}: {value:.4g} of {limit:.4g} {unit}"
    return None


def foreseen(limits: Limits, least: Spent, most: Spent, *, what: str = "run") -> list[str]:
    """What each limit will do to a run that takes between ``least`` and ``most``, in words.

    ``what`` is limited: a run, or a sweep as a whole.

    >>> foreseen(Limits(time_s=60), Spent(80.0), Spent(90.0))
    ['limits.time_s, 60 s: ends this run early']
    >>> foreseen(Limits(time_s=60), Spent(50.0), Spent(70.0))
    ['limits.time_s, 60 s: may end this run early']
    """
    return [
        f"limits.{name}, {limit:.4g} {unit}: "
        + _effect(limit, getattr(least, name), getattr(most, name)).format(f"this {what}")
        for name, limit, unit in _given(limits)
    ]


def _effect(limit: float, least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "unknown whether it ends {} early"
    if least >= limit:
        return "ends {} early"
    return "may end {} early" if most >= limit else "leaves room for {}"


def _given(limits: Limits) -> Iterator[tuple[str, float, str]]:
    for name, unit in UNITS.items():
        limit = getattr(limits, name)
        if limit is not None:
            yield name, limit, unit
