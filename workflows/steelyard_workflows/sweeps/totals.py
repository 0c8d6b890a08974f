"""What a sweep cost: the sum of its trials, from the ledger onto the sweep's page."""

from collections.abc import Iterable
from functools import reduce
from typing import TYPE_CHECKING

from steelyard.bootstrap import Platform
from steelyard.bootstrap.errands import collect
from steelyard.cli.output import note
from steelyard.domain import figures
from steelyard.domain.errors import SteelyardError
from steelyard.settings import Settings
from steelyard_workflows.tracking import totals
from steelyard_workflows.tracking.run_page import log_rows, set_tags

if TYPE_CHECKING:
    from steelyard.services.run_account import RunCost


def show_total(settings: Settings, model: str, sweep_id: str, run_ids: Iterable[str]) -> None:
    """Post what the trials spent, and write the sum onto the sweep's page.

    Books that cannot be posted now are said; they are posted later, and only the page lacks them.
    """
    try:
        collect(settings)
        runs = Platform(settings).runs
        costs = [cost for run_id in run_ids if (cost := runs.cost(model, run_id)) is not None]
    except SteelyardError as error:
        note(f"The books are not posted yet: {error}")
        return
    if not costs:
        return
    total = reduce(plus, costs)
    log_rows(settings, sweep_id, totals.metrics(total))
    set_tags(settings, sweep_id, totals.tags(total))
    note(
        f"  the sweep cost {figures.money(total.cost.cost_nano)}, "
        f"{figures.energy(total.cost.energy_mj)}, {figures.carbon(total.cost.carbon_ug)} CO2e"
    )


def plus(one: "RunCost", other: "RunCost") -> "RunCost":
    """Two runs' costs together."""
    tiers = {**one.energy_by_tier_mj}
    for tier, energy_mj in other.energy_by_tier_mj.items():
        tiers[tier] = tiers.get(tier, 0) + energy_mj
    return type(one)(
        cost=one.cost + other.cost,
        energy_by_tier_mj=tiers,
        windows=one.windows + other.windows,
        flop_windows=one.flop_windows + other.flop_windows,
        recorded_us=max(one.recorded_us, other.recorded_us),
    )
