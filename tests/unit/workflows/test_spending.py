"""What a run has spent, and when that is too much."""

from fractions import Fraction
from pathlib import Path

import pytest

from steelyard.bootstrap import Platform
from steelyard.domain.cost import HOUR_US, Price
from steelyard.domain.energy import LoadModel
from steelyard.domain.errors import Refused
from steelyard.domain.metering import SupplyWindow
from steelyard_workflows.booking.metering import Charge, charge_for
from steelyard_workflows.training.limits import Spent, exceeded
from steelyard_workflows.training.spending import Guard, Rates, Spending, rates_for
from steelyard_workflows.workflow import Limits

TWO = Charge("run", "m", 2, "generic-vcpu", "vcpu-hour")
RATES = Rates(
    (Price("p", "vcpu-hour", "USD", 40_000_000, 0, 0),), LoadModel(Fraction(1), Fraction(4), ()), 0
)


def window(start: int, end: int, **more: object) -> SupplyWindow:
    """Two devices, reserved for the whole window."""
    return SupplyWindow("p", "b", 0, "r", start, end, 2 * (end - start), **more)  # type: ignore[arg-type]


def test_cost_is_reserved_device_time_at_the_price_in_force() -> None:
    """Two devices for an hour at 0.04 USD, of which half an hour is not booked yet."""
    spending = Spending(TWO, RATES)
    spending.start(0)
    spending.add(window(0, HOUR_US // 2))
    assert spending.until(HOUR_US // 2, HOUR_US).cost_usd == pytest.approx(0.08)


def test_attempts_add_up_and_the_gap_between_them_costs_nothing_but_time() -> None:
    """A minute, a gap of a minute, a minute: time runs on, reserved time does not."""
    minute = HOUR_US // 60
    spending = Spending(TWO, RATES)
    spending.start(0)
    spending.add(window(0, minute))
    spending.start(2 * minute)
    spending.add(window(2 * minute, 3 * minute))
    found = spending.until(3 * minute, 3 * minute)
    assert found.time_s == 180
    assert found.cost_usd == pytest.approx(0.04 * 4 / 60)


def test_energy_is_metered_where_it_is_and_modelled_elsewhere() -> None:
    """Modelled: idle watts of the reserved time, the rest by CPU time; an open window is full."""
    spending = Spending(TWO, RATES)
    spending.start(0)
    spending.add(window(0, HOUR_US, energy_mj=3_600_000_000, energy_method="counter_cpu"))
    assert spending.until(HOUR_US, HOUR_US).energy_kwh == pytest.approx(1.0)
    spending.add(window(HOUR_US, 2 * HOUR_US, cpu_us=HOUR_US))
    assert spending.until(2 * HOUR_US, 2 * HOUR_US).energy_kwh == pytest.approx(1.005)
    assert spending.until(2 * HOUR_US, 3 * HOUR_US).energy_kwh == pytest.approx(1.013)


def test_the_unknown_reaches_no_limit() -> None:
    """Such limits are refused before the start; here they are not guessed."""
    spending = Spending(TWO, Rates())
    spending.start(0)
    found = spending.until(0, HOUR_US)
    assert found == Spent(3600.0, None, None)
    assert exceeded(Limits(cost_usd=1e-9, energy_kwh=1e-9), found) is None


@pytest.mark.parametrize(
    ("spent", "reason"),
    [
        (Spent(59.9, 0.99, 1.9), None),
        (Spent(60.0, 0.0, 0.0), "limits.time_s: 60 of 60 s"),
        (Spent(1.0, 1.25, 0.0), "limits.cost_usd: 1.25 of 1 USD"),
        (Spent(1.0, 0.0, 2.0), "limits.energy_kwh: 2 of 2 kWh"),
    ],
)
def test_a_limit_that_is_reached_is_named(spent: Spent, reason: str | None) -> None:
    """With what was found and what was allowed."""
    assert exceeded(Limits(time_s=60, cost_usd=1, energy_kwh=2), spent) == reason


def test_the_guard_raises_the_sign_once(tmp_path: Path) -> None:
    """The first reason stays."""
    sign = tmp_path / "stop"
    spending = Spending(TWO, RATES)
    spending.start(0)
    guard = Guard(Limits(time_s=10), spending, tmp_path)
    guard.look(0, 9_000_000)
    assert not sign.exists()
    guard.look(0, 10_000_000)
    guard.look(0, 20_000_000)
    assert sign.read_text() == "limits.time_s: 10 of 10 s"


def test_limits_on_what_nobody_can_count_are_refused_before_the_start(empty: Platform) -> None:
    """No price, no watts: the limit could never be reached."""
    unlisted = Charge("run", "m", 1, "unlisted", "unlisted")
    with pytest.raises(Refused, match="'unlisted' has no price in force"):
        rates_for(empty.settings, unlisted, Limits(cost_usd=1))
    with pytest.raises(Refused, match="what 'unlisted' draws is unknown"):
        rates_for(empty.settings, unlisted, Limits(energy_kwh=1))
    assert rates_for(empty.settings, unlisted, Limits(time_s=1)) == Rates()


def test_the_shipped_rate_book_is_enough_for_every_limit(empty: Platform) -> None:
    """On the devices that the settings name by default."""
    charge = charge_for(empty.settings, "run", "m", 2, None)
    found = rates_for(empty.settings, charge, Limits(cost_usd=1, energy_kwh=1))
    assert found.prices and found.load is not None
