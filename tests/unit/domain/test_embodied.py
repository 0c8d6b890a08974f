from fractions import Fraction

import pytest

from steelyard.domain.embodied import embodied_g
from steelyard.domain.errors import InvalidInput
from steelyard.domain.quantities import HOUR_S, DeviceTime, device_time

FOUR_YEARS_H = Fraction(4 * 365 * 24)
HOUR = device_time(device_s=HOUR_S)


def test_an_hour_of_a_server_that_lasts_four_years() -> None:
    """1,000 kg over 35,040 hours: one hour is 28.538812785 g (A3)."""
    found = embodied_g(Fraction(1000), FOUR_YEARS_H, HOUR)
    assert found == Fraction(1_000_000, 35_040)
    assert round(found * 10**9) == 28_538_812_785


def test_a_part_of_a_device_carries_its_part() -> None:
    """A quarter of each of two servers for an hour is half of one server's hour."""
    two = device_time(devices=2, wall_s=HOUR_S)
    quarter = embodied_g(Fraction(1000), FOUR_YEARS_H, two, Fraction(1, 4))
    assert quarter * 2 == embodied_g(Fraction(1000), FOUR_YEARS_H, HOUR)


def test_a_whole_life_carries_the_whole_device() -> None:
    """The hours of a life add up to what making the device emitted."""
    life = device_time(device_s=FOUR_YEARS_H * HOUR_S)
    assert embodied_g(Fraction(1000), FOUR_YEARS_H, life) == 1_000_000


@pytest.mark.parametrize(
    ("kg", "life", "time", "share"), [(1, 0, 1, 1), (-1, 1, 1, 1), (1, 1, -1, 1), (1, 1, 1, 2)]
)
def test_impossible_embodied_inputs_are_refused(kg: int, life: int, time: int, share: int) -> None:
    """No lifespan, negative amounts, more than a whole device."""
    with pytest.raises(InvalidInput, match="lifespan"):
        embodied_g(Fraction(kg), Fraction(life), DeviceTime(time), Fraction(share))
