from decimal import Decimal
from fractions import Fraction

import pytest

from steelyard.domain.carbon import operational_ug
from steelyard.domain.errors import InvalidInput
from steelyard.domain.quantities import (
    HOUR_S,
    Carbon,
    DeviceTime,
    Energy,
    Money,
    Number,
    device_time,
    exact,
    facility_energy,
)

DAY_S = 24 * HOUR_S


def test_the_published_energy_of_gpt3_follows_from_its_devices() -> None:
    """10,000 devices of 330 W for 14.8 days at PUE 1.10 are 1,289.376 MWh (A2)."""
    time = device_time(devices=10_000, wall_s=Decimal("14.8") * DAY_S)
    assert time == DeviceTime(12_787_200_000_000_000)
    assert facility_energy(time, 330, "1.10").kwh == 1_289_376


def test_the_published_carbon_of_gpt3_follows_from_its_energy() -> None:
    """1,287 MWh at 429 g per kWh are 552.123 t (A2)."""
    energy = Energy(1_287_000 * 3_600_000_000)
    assert Carbon(operational_ug(energy.energy_mj, Fraction(429))).grams == 552_123_000


def test_device_hours_are_multiplied_already() -> None:
    """54 device-hours at 700 W and PUE 1.32 are 49.896 kWh (A5)."""
    assert facility_energy(device_time(device_s=54 * HOUR_S), 700, "1.32").kwh == exact("49.896")


def test_device_hours_to_carbon() -> None:
    """418.8 device-hours at 700 W, PUE 1.11 and 120 g per kWh are 39.048912 kg (A5)."""
    time = device_time(device_s=exact("418.8") * HOUR_S)
    energy = facility_energy(time, 700, "1.11")
    assert Carbon(operational_ug(energy.energy_mj, Fraction(120))).grams == exact("39048.912")


@pytest.mark.parametrize(
    "given",
    [
        {"devices": 8, "device_s": 10},
        {"wall_s": 10, "device_s": 10},
        {"devices": 8, "wall_s": 10, "device_s": 80},
    ],
)
def test_hours_and_a_count_for_a_multiplied_figure_are_refused(given: dict[str, int]) -> None:
    """Multiplying device-hours by devices again is the mistake this prevents (A5)."""
    with pytest.raises(InvalidInput, match="multiplied already"):
        device_time(**given)


@pytest.mark.parametrize(
    "given", [{}, {"devices": 8}, {"wall_s": 5}, {"devices": 0, "wall_s": 5}, {"device_s": -1}]
)
def test_half_a_device_time_is_refused(given: dict[str, int]) -> None:
    """Nothing is assumed: no single device, no hour, no negative time."""
    with pytest.raises(InvalidInput):
        device_time(**given)


@pytest.mark.parametrize("value", [0.1, True, "ten", "1/0", "nan", "inf"])
def test_what_is_not_exact_is_no_amount(value: Number) -> None:
    """A float hides what was meant; text must be a number."""
    with pytest.raises(InvalidInput):
        exact(value)


def test_kinds_cannot_be_added() -> None:
    """Energy and carbon are both integers, but not the same thing; nor are two currencies."""
    assert Energy(1) + Energy(2) == Energy(3)
    assert Money(1, "USD") + Money(2, "USD") == Money(3, "USD")
    assert DeviceTime(1) + DeviceTime(2) == DeviceTime(3)
    with pytest.raises(TypeError):
        Energy(1) + Carbon(1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        Carbon(1) + DeviceTime(1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        Money(1, "USD") + Energy(1)  # type: ignore[operator]
    with pytest.raises(InvalidInput, match="USD and EUR"):
        Money(1, "USD") + Money(1, "EUR")


def test_a_building_that_makes_energy_is_refused() -> None:
    """A PUE below 1 and a negative power are mistakes."""
    with pytest.raises(InvalidInput, match="at least 1"):
        facility_energy(DeviceTime(1), 700, "0.9")
    with pytest.raises(InvalidInput):
        facility_energy(DeviceTime(1), -700)


def test_money_reads_in_whole_units() -> None:
    """Nano-units are for sums, whole units for people."""
    assert Money(2_500_000_000, "USD").amount == Fraction(5, 2)
