"""What a compression will take and earn, before it starts.

What it takes is estimated from its work and past runs of the kind; what it earns from the evidence
of variants of the kind, and the traffic of its parent.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from steelyard.bootstrap.registry import registry
from steelyard.domain.measures import Measures
from steelyard.domain.prospect import Prospect, Range
from steelyard.domain.recommend_lines import pay_back
from steelyard.services.choosing import Earning
from steelyard.services.estimates import Estimate, Plan
from steelyard.settings import Settings
from steelyard_workflows.compression.order import Order
from steelyard_workflows.estimates.forecast import ledger
from steelyard_workflows.evaluation.speed import CALLS, WARM_UP
from steelyard_workflows.variants.steps import Step


@dataclass(frozen=True, slots=True)
class Work:
    """What a compression computes at most: training steps and forward passes, in rows.

    ``flop`` takes every row for one of the parent: a smaller network needs less. None: unknown.
    """

    learned_rows: int
    passed_rows: int
    flop: int | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """A compression's work, what it is estimated to take, and what it would earn.

    ``earning`` is None while the ``parent`` has served nothing.
    """

    parent: str
    work: Work
    estimate: Estimate
    earning: Earning | None

    def document(self) -> dict[str, Any]:
        """As JSON: ledger units, unknown is None."""
        found = self.estimate
        wall = asdict(found.wall_us) if found.wall_us else None
        return {
            "work": asdict(self.work),
            "wall_us": wall,
            "time_basis": found.time_basis,
            "energy_tier": found.energy_tier,
            "typical": asdict(found.typical),
            "cited": {name: list(rows) for name, rows in found.cited.items()},
            "pay_back": _earning(self.earning) if self.earning else None,
        }


def work(order: Order) -> Work:
    """The rows that the steps learn from, and those that are passed through the networks."""
    source = order.source
    data = source.dataset
    learned = passed = 0
    for step in order.steps:
        taught = _epochs(step) * len(data.train)
        control = bool(step.options.get("control")) and bool(taught)
        learned += taught * (2 if control else 1)
        passed += len(data.test) * control
        passed += len(data.train) * (step.kind.name == "distilled")
    timed = sum(batch * (calls + WARM_UP) for batch, calls in CALLS.items())
    passed += len(source.calibration) + 2 * (2 * len(data.test) + timed)
    flops = source.flops
    flop = None
    if flops is not None and flops.train_step is not None and flops.forward is not None:
        flop = learned * flops.train_step + passed * flops.forward
    return Work(learned, passed, flop)


def _epochs(step: Step) -> int:
    return int(step.options.get("epochs", 0))


def forecast(order: Order, settings: Settings) -> Forecast:
    """Estimate a compression by past ones of the same kind and model; unknown without any."""
    planned, version = work(order), order.source.version
    plan = Plan(version.model, order.source.workflow.team, 1, settings.device_model,
                settings.price_sku, settings.region or None,
                planned.learned_rows + planned.passed_rows, planned.flop)  # fmt: skip
    same = [v.run_id for v in reversed(registry(settings).versions(version.model))
            if v.variant == order.kind]  # fmt: skip
    with ledger(settings) as platform:
        estimate = platform.estimates.of(plan, same)
        making = estimate.typical.cost_nano
        earning = platform.choosing.earning(version, order.kind, making)
    return Forecast(version.name, planned, estimate, earning)


def _earning(found: Earning) -> dict[str, Any]:
    one = found.prospect
    requests, days = one.pay_back.requests, one.pay_back.days
    return {
        "verdict": one.verdict,
        "requests": None if requests is None else math.ceil(requests),
        "days": None if days is None else float(days),
        "requests_per_day": found.requests_per_day,
        "assumed_from": [seen.name for seen in one.kind.precedents],
        "assumed_time_of_parent": [float(end) for end in times] if (times := _times(one)) else None,
    }


def lines(found: Forecast) -> list[str]:
    """The forecast for people; what is not known is said to be so."""
    took, estimate = found.work, found.estimate
    flop = "unknown" if took.flop is None else f"{took.flop:,} FLOP"
    said = [f"Work: {took.learned_rows:,} rows learned from, {took.passed_rows:,} passed through, "
            f"at most {flop}"]  # fmt: skip
    if estimate.wall_us is None:
        said.append("Time and cost: unknown, no run of this kind and model is in the ledger")
        return [*said, *_pay_back(found)]
    wall = estimate.wall_us
    seconds = " to ".join(f"{end / 1e6:.1f}" for end in (wall.low, wall.typical, wall.high))
    return [*said, f"Time: {seconds} s (least, typical, most); {estimate.time_basis}",
            f"Estimated: {_measures(estimate.typical)}", *_pay_back(found)]  # fmt: skip


def _pay_back(found: Forecast) -> Iterator[str]:
    """When the compression would have paid for itself, and what that assumes."""
    if found.earning is None:
        yield f"Pay-back: unknown, {found.parent} has served nothing that is in the ledger"
        return
    one, rate = found.earning.prospect, found.earning.requests_per_day
    kind, times = one.kind, _times(one)
    if times is None:
        yield f"Pay-back: unknown, no {kind.name} was measured on this hardware yet"
        return
    traffic = "unknown" if rate is None else f"{rate:,.0f} a day"
    yield f"Pay-back: {pay_back(one)} (requests to {found.parent}: {traffic})"
    low, typical, high = (f"{float(end):.3g}" for end in times)
    names = ", ".join(seen.name for seen in kind.precedents)
    yield (f"  assumed: {typical} of its parent's time a row [{low}, {high}], as measured of "
           f"{names}; what is not computing costs the same")  # fmt: skip


def _times(one: Prospect) -> Range | None:
    """The least, the median and the greatest time of the kind, as shares of a parent's."""
    found = [seen.time for seen in one.kind.precedents if seen.time is not None]
    return (min(found), median(found), max(found)) if found else None


def _measures(found: Measures) -> str:
    parts = [
        ("cost", found.cost_nano, 1e9, "US$"),
        ("energy", found.energy_mj, 3.6e9, "kWh"),
        ("carbon", found.carbon_ug, 1e6, "g CO2e"),
    ]
    return ", ".join(
        f"{name} unknown" if value is None else f"{name} {value / scale:.6f} {unit}"
        for name, value, scale, unit in parts
    )
