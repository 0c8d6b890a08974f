from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.ledger import Unit
from steelyard.domain.sensitivity import Place, coefficient_limits
from steelyard.domain.unit_economics import CoefficientRange


def _ends(value: str, low: str | None = None, high: str | None = None) -> CoefficientRange:
    known = (None if end is None else Fraction(end) for end in (low, high))
    return CoefficientRange(Fraction(value), *known)


IDLE, FULL = _ends("100", "80", "120"), _ends("400", "200", "480")
PUE, GRID = _ends("1.2", "1.2", "1.8"), _ends("400", "300", "500")
PLACE = Place((IDLE, FULL), PUE, GRID, _ends("150", "75", "300"), _ends("100", "50", "200"))
TEN = Fraction(10)
LOAD, METER = {"modelled_load": 7}, {"counter_gpu": 3}


@pytest.mark.parametrize(
    ("unit", "by_tier", "limits"),
    [
        ("mJ", LOAD, ("5", "12")),
        ("mJ", LOAD | METER, ("6.5", "11.4")),
        ("ugCO2e_loc", METER, ("7.5", "18.75")),
        ("ugCO2e_loc", LOAD, ("3.75", "22.5")),
        ("ugCO2e_emb", {"": 4}, ("2.5", "40")),
    ],
)
def test_an_amount_moves_with_the_coefficients_that_are_in_it(
    unit: Unit, by_tier: dict[str, int], limits: tuple[str, str]
) -> None:
    """Watts where energy is modelled, the building and the grid for carbon, never a meter."""
    found = coefficient_limits(TEN, unit, by_tier, [PLACE])
    assert found == (Fraction(limits[0]), Fraction(limits[1]))


@pytest.mark.parametrize(
    ("unit", "by_tier", "places"),
    [
        ("nUSD", {"": 1}, [PLACE]),
        ("device_us", {"": 1}, [PLACE]),
        ("mJ", METER, [PLACE]),
        ("mJ", {"nameplate": 1}, [PLACE]),
        ("mJ", {}, [PLACE]),
        ("mJ", LOAD, []),
        ("mJ", LOAD, [Place((IDLE, _ends("400", "200")))]),
        ("mJ", LOAD, [PLACE, Place((IDLE, _ends("400")))]),
        ("ugCO2e_loc", LOAD, [Place((IDLE, FULL), PUE, _ends("400"))]),
        ("ugCO2e_loc", LOAD, [Place((IDLE, FULL), _ends("1.2"), GRID)]),
        ("ugCO2e_emb", {"": 1}, [Place(embodied_kg=IDLE, lifespan_h=_ends("35040"))]),
    ],
)
def test_one_coefficient_without_ends_leaves_no_range(
    unit: Unit, by_tier: dict[str, int], places: list[Place]
) -> None:
    """A range that leaves out a part of the doubt would look too sure."""
    assert coefficient_limits(TEN, unit, by_tier, places) is None


def test_a_place_that_nothing_was_posted_for_has_no_say() -> None:
    """Without watts there is no modelled energy from there, without a grid no carbon."""
    bare = Place(pue=_ends("1.1"))
    assert coefficient_limits(TEN, "mJ", LOAD, [PLACE, bare]) == (Fraction(5), Fraction(12))
    assert coefficient_limits(TEN, "ugCO2e_loc", METER, [bare, PLACE]) is not None


def test_of_two_places_the_one_that_moves_more_counts() -> None:
    """A building without a declared PUE does not move; the other one's does."""
    steady = Place((IDLE, IDLE), None, _ends("40", "39", "41"))
    low, high = coefficient_limits(TEN, "ugCO2e_loc", METER, [PLACE, steady]) or (0, 0)
    assert (low, high) == (Fraction("7.5"), Fraction("18.75"))


amounts = st.integers(0, 10**9)
thirds = st.tuples(*[st.integers(1, 10**6)] * 3).map(sorted)


@given(amounts, amounts, thirds, thirds)
def test_the_range_holds_however_idle_the_devices_were(
    idle: int, loaded: int, idle_w: list[int], full_w: list[int]
) -> None:
    """Energy is idle watts for some time and full watts for another: the split is not asked."""

    def energy(end: int) -> Fraction:
        return Fraction(idle * idle_w[end] + loaded * full_w[end])

    watts = [CoefficientRange(*(Fraction(w[n]) for n in (1, 0, 2))) for w in (idle_w, full_w)]
    found = coefficient_limits(energy(1), "mJ", LOAD, [Place((watts[0], watts[1]))])
    assert found is not None
    assert found[0] <= energy(0) <= energy(1) <= energy(2) <= found[1]
