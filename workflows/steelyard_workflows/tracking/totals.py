"""A run's total, from the ledger back onto its page in the experiment tracker.

Metrics are in units that people compare; the same figures stand beside them as tags, whole
numbers in the ledger's units, because MLflow's numbers are floats. What is unknown is left out.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING

from steelyard.bootstrap import Platform
from steelyard.bootstrap.errands import collect
from steelyard.cli.output import note
from steelyard.domain.errors import SteelyardError
from steelyard.settings import Settings
from steelyard_workflows.tracking.late import told_late
from steelyard_workflows.tracking.run_page import log_rows, set_tags

if TYPE_CHECKING:
    from steelyard.services.run_account import RunCost

METRICS = {
    "device_us": ("ledger/device_seconds", 10**6),
    "cost_nano": ("ledger/cost_usd", 10**9),
    "energy_mj": ("ledger/energy_kwh", 3_600_000_000),
    "carbon_ug": ("ledger/carbon_operational_g", 10**6),
    "embodied_ug": ("ledger/carbon_embodied_g", 10**6),
    "flop": ("ledger/flop", 1),
}
"""What a figure of the ledger is called on a run's page, and how many of its units are one."""
TAG = "steelyard.ledger."


@contextmanager
def accounted(settings: Settings) -> Iterator[None]:
    """Post what runs in the block, and write the totals of the runs that were charged.

    Also when the block fails: a run without a version cost something as well. May be repeated:
    the same total is the same metric.
    """
    before = _newest(settings)
    try:
        yield
    except BaseException:
        try:
            _account(settings, before)
        except SteelyardError as error:
            note(f"The books are not posted yet: {error}")
        raise
    _account(settings, before)


def _newest(settings: Settings) -> int:
    head = Platform(settings).ledger.head()
    return head.seq if head else 0


def _account(settings: Settings, since_seq: int) -> None:
    collect(settings)
    platform = Platform(settings)
    for model, run_id in platform.runs.charged_since(since_seq):
        cost = platform.runs.cost(model, run_id)
        if cost is not None:
            write_back(settings, run_id, cost)


def write_back(settings: Settings, run_id: str, cost: "RunCost") -> None:
    """Put a total onto the run's page; it waits in the run's outbox while MLflow is away."""
    with told_late(settings, run_id, "The total"):
        log_rows(settings, run_id, metrics(cost))
        set_tags(settings, run_id, tags(cost))


def metrics(cost: "RunCost") -> list[tuple[str, float, int, int]]:
    """The known figures as rows of metrics; the moment is that of the newest charge."""
    return [
        (name, float(Fraction(amount, scale)), cost.recorded_us // 1_000, 0)
        for field, (name, scale) in METRICS.items()
        if (amount := getattr(cost.cost, field)) is not None
    ]


def tags(cost: "RunCost") -> dict[str, str]:
    """The known figures exactly, how energy was found, and how many windows knew their FLOPs."""
    exact = {TAG + k: str(v) for k, v in asdict(cost.cost).items() if v is not None}
    return exact | {
        f"{TAG}energy_by_tier_mj": json.dumps(dict(cost.energy_by_tier_mj), sort_keys=True),
        f"{TAG}flop_windows": f"{cost.flop_windows} of {cost.windows}",
    }
