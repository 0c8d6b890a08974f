from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.carbon import facility_overhead_mj, operational_ug
from steelyard.domain.cost import HOUR_US, Charge, Price, charges, price_at

DAY_US = 24 * HOUR_US
HALF_US = HOUR_US // 2


def _price(dollars: int, valid_from_us: int, recorded_us: int = 0) -> Price:
    name = f"{dollars}@{valid_from_us}/{recorded_us}"
    return Price(name, "gpu", "USD", dollars * 10**9, valid_from_us, recorded_us)


def test_a_window_across_a_price_change_pays_both_prices() -> None:
    """23:30 to 00:30 across $2 to $3 an hour is $1.00 and $1.50, each citing its price (A14)."""
    prices = [_price(2, 0), _price(3, DAY_US)]
    found = charges(prices, "gpu", DAY_US - HALF_US, DAY_US + HALF_US, 1, 0)
    first, second = (price.price_id for price in prices)
    assert found == (Charge(first, 1_000_000_000), Charge(second, 1_500_000_000))


def test_devices_multiply_the_cost() -> None:
    """Four devices for a quarter of an hour cost what one does in an hour."""
    found = charges([_price(2, 0)], "gpu", 0, HOUR_US // 4, 4, 0)
    assert found == (Charge("2@0/0", 2_000_000_000),)


@pytest.mark.parametrize(
    ("start_us", "end_us", "sku"),
    [(-HALF_US, HALF_US, "gpu"), (-HOUR_US, -HALF_US, "gpu"), (0, HOUR_US, "unlisted")],
)
def test_without_a_price_for_all_of_it_the_cost_is_unknown(
    start_us: int, end_us: int, sku: str
) -> None:
    """Unknown, not free, also when only a part has no price."""
    assert charges([_price(2, 0)], sku, start_us, end_us, 1, 0) is None


def test_a_price_that_was_recorded_later_is_not_known_before() -> None:
    """Two clocks: a correction changes what is asked afterwards, not what was posted."""
    prices = [_price(2, 0, recorded_us=10), _price(5, 0, recorded_us=20)]
    assert price_at(prices, "gpu", 0, as_of_us=9) is None
    assert price_at(prices, "gpu", 0, as_of_us=10) == prices[0]
    assert price_at(prices, "gpu", 0, as_of_us=20) == prices[1]


@given(
    st.integers(0, 10**12),
    st.dictionaries(st.text(min_size=1), st.integers(0, 10**9), min_size=1),
)
def test_a_split_makes_the_whole(total: int, weights: dict[str, int]) -> None:
    """To the last unit, and nobody is more than one unit away from the exact share."""
    whole = sum(weights.values())
    if not whole:
        total = 0
    parts = largest_remainder(total, weights)
    assert sum(parts.values()) == total
    for key, weight in weights.items():
        exact = Fraction(total * weight, whole) if whole else Fraction(0)
        assert abs(parts[key] - exact) < 1


@pytest.mark.parametrize(("total", "weights"), [(-1, {"a": 1}), (1, {"a": -1}), (1, {"a": 0})])
def test_an_impossible_split_is_refused(total: int, weights: dict[str, int]) -> None:
    """Negative amounts, negative weights, and something over nobody."""
    with pytest.raises(ValueError, match=r"not negative|nothing to split"):
        largest_remainder(total, weights)


def test_the_building_s_share_and_the_grid() -> None:
    """0.175 kWh at PUE 1.2 on Germany's grid is 79.9995 g; a PUE below 1 is refused."""
    extra = facility_overhead_mj(630_000_000, Fraction("1.2"))
    assert extra == 126_000_000
    assert operational_ug(630_000_000 + extra, Fraction("380.95")) == 79_999_500
    with pytest.raises(ValueError, match="at least 1"):
        facility_overhead_mj(1, Fraction("0.9"))
