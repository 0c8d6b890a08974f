import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain import figures


@pytest.mark.parametrize(
    "figure",
    [
        figures.money, figures.energy, figures.carbon, figures.duration, figures.flops,
        figures.size, figures.milliseconds, figures.count, figures.percent,
    ],
)  # fmt: skip
def test_unknown_is_a_dash_and_nothing_is_a_zero(figure: object) -> None:
    """A reader can tell "we do not know" from "there was none", in every unit."""
    assert callable(figure)
    assert figure(None) == "–"
    assert "0" in figure(0)
    assert "–" not in figure(0)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (1, "$0.000000001"),
        (123_456, "$0.000123"),
        (1_599_984, "$0.0016"),
        (500_000_000, "$0.50"),
        (999_999_999, "$1.00"),
        (1_000_000_000, "$1.00"),
        (12_345_000_000, "$12.34"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (-2_500_000_000, "-$2.50"),
    ],
)
def test_money_has_three_digits_below_a_dollar_and_cents_above(nano: int, text: str) -> None:
    """Tiny amounts stay readable, and an invoice's cents are never rounded away."""
    assert figures.money(nano) == text


@pytest.mark.parametrize(
    ("mj", "text"),
    [
        (12, "12 mJ"),
        (999_600, "1,000 J"),
        (999_400, "999 J"),
        (3_599_999, "1 Wh"),
        (4_320_000_000, "1.2 kWh"),
        (10**16, "2,778 MWh"),
    ],
)
def test_energy_is_in_the_unit_that_people_read(mj: int, text: str) -> None:
    """Small amounts in joules, larger ones in watt-hours as on a bill."""
    assert figures.energy(mj) == text


def test_units_of_the_other_measures() -> None:
    """Carbon in grams, time in hours, computation in powers of a thousand, shares in percent."""
    assert figures.carbon(45_600) == "45.6 mg"
    assert figures.carbon(2 * 10**12) == "2 t"
    assert figures.duration(3_600_000_000) == "1 h"
    assert figures.duration(1_250) == "1.25 ms"
    assert figures.flops(31_234_567_890) == "31.2 GFLOP"
    assert figures.flops(7) == "7 FLOP"
    assert figures.size(481_280) == "481 kB"
    assert figures.milliseconds(0.2144) == "0.214 ms"
    assert figures.count(1_234_567) == "1,234,567"
    assert figures.percent(0.97222) == "97.2 %"
    assert figures.percent(0.05) == "5 %"


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_any_amount_has_a_short_text(amount: int) -> None:
    """No amount, however large or small, comes out in scientific notation or without its unit."""
    for figure in (figures.energy, figures.carbon, figures.duration, figures.flops):
        number, unit = figure(amount).split(" ")
        assert unit
        assert "e" not in number.lower()
        assert number == "0" or abs(float(number.replace(",", ""))) >= 1
