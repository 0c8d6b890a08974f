"""Looking up prices and coefficients: two clocks, regions, and nothing assumed in silence."""

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.cost import Price, price_at
from steelyard.domain.errors import InvalidInput
from steelyard.domain.metering import Resource
from steelyard.domain.rate_book import CoefficientRow, RateBook, ZoneRow, check_region

CLOCK = st.integers(0, 20)
ROWS = st.lists(
    st.builds(
        CoefficientRow, st.uuids().map(str), st.sampled_from(["grid_ci", "pue"]),
        st.sampled_from(["DEU", "aws/x", "default"]), st.integers(1, 9).map(Fraction), CLOCK, CLOCK,
    ),
    max_size=12, unique_by=lambda row: row.coef_id,
)  # fmt: skip
PRICES = st.lists(
    st.builds(
        Price, st.uuids().map(str), st.sampled_from(["a", "b"]), st.just("USD"),
        st.integers(0, 9), CLOCK, CLOCK,
    ),
    max_size=12, unique_by=lambda price: price.price_id,
)  # fmt: skip
ZONES = st.lists(
    st.builds(ZoneRow, st.uuids().map(str), st.just("aws/x"), st.just("DEU"), CLOCK, CLOCK),
    max_size=4, unique_by=lambda row: row.coef_id,
)  # fmt: skip


def grid(key: str, value: int, valid: int = 0, recorded: int = 0) -> CoefficientRow:
    """An intensity; its id says what it is."""
    name = f"{key}-{value}-{valid}-{recorded}"
    return CoefficientRow(name, "grid_ci", key, Fraction(value), valid, recorded)


def resource(region: str | None) -> Resource:
    """A replica somewhere."""
    return Resource("serve/shop/0", "replica", "gpu", 1, 1, "a", 0, region)


def answers(book: RateBook, at_us: int) -> list[object]:
    """Everything that can be looked up."""
    found: list[object] = [price_at(book.prices(s), s, at_us, book.as_of_us) for s in ("a", "b")]
    for region in ("DEU", "aws/x", "nowhere", None):
        valuation = book.valuation(resource(region), at_us)
        found += [valuation.intensity, valuation.pue]
    return found


@given(PRICES, ROWS, ZONES, CLOCK, CLOCK, st.randoms(use_true_random=False))
def test_an_answer_depends_on_the_two_moments_only(
    prices: list[Price], rows: list[CoefficientRow], zones: list[ZoneRow], at_us: int,
    as_of_us: int, dice: random.Random,
) -> None:  # fmt: skip
    """Whatever order a database gives rows in, the answer is the same."""
    expected = answers(RateBook(prices, rows, as_of_us, zones), at_us)
    for each in (prices, rows, zones):
        dice.shuffle(each)
    assert answers(RateBook(prices, rows, as_of_us, zones), at_us) == expected


@given(PRICES, ROWS, ZONES, PRICES, ROWS, ZONES, CLOCK, CLOCK)
def test_what_is_recorded_later_never_changes_an_earlier_answer(
    prices: list[Price], rows: list[CoefficientRow], zones: list[ZoneRow],
    more_prices: list[Price], more_rows: list[CoefficientRow], more_zones: list[ZoneRow],
    at_us: int, as_of_us: int,
) -> None:  # fmt: skip
    """A statement as of last month stays the statement of last month."""
    before = answers(RateBook(prices, rows, as_of_us, zones), at_us)
    later = as_of_us + 1
    book = RateBook(
        [*prices, *(replace(p, recorded_us=later + p.recorded_us) for p in more_prices)],
        [*rows, *(replace(r, recorded_us=later + r.recorded_us) for r in more_rows)],
        as_of_us,
        [*zones, *(replace(z, recorded_us=later + z.recorded_us) for z in more_zones)],
    )
    assert answers(book, at_us) == before


@given(ROWS, CLOCK, CLOCK)
def test_the_row_that_became_valid_last_holds_and_of_those_the_newest(
    rows: list[CoefficientRow], at_us: int, as_of_us: int
) -> None:
    """The rule itself, against the plainest way to write it down."""
    for key in ("DEU", "default"):
        known = sorted(
            (r.valid_from_us, r.recorded_us) for r in rows
            if (r.kind, r.key) == ("pue", key) and r.valid_from_us <= at_us
            and r.recorded_us <= as_of_us
        )  # fmt: skip
        found = RateBook([], rows, as_of_us).coefficient("pue", key, at_us)
        holds = {r.coef_id: (r.valid_from_us, r.recorded_us) for r in rows}
        assert (holds[found.coef_id] if found else None) == (known[-1] if known else None)


def test_a_correction_holds_from_when_it_is_known() -> None:
    """A figure that was corrected later shows in reports as of later, not as of before."""
    rows = [grid("DEU", 380, valid=0, recorded=0), grid("DEU", 350, valid=0, recorded=50)]
    for as_of, expected in ((49, 380), (50, 350)):
        found = RateBook([], rows, as_of).intensity("DEU", 10)
        assert found is not None and found.value == expected


def test_a_cloud_region_takes_its_zones_intensity_and_cites_that_row() -> None:
    """Where a provider tells no figure, the grid that the region lies in has one."""
    zone = ZoneRow("z", "aws/us-east-1", "US-VA", 0, 0)
    book = RateBook([], [grid("US-VA", 245)], 0, [zone])
    found = book.intensity("aws/us-east-1", 0)
    assert found is not None and found.coef_id == "US-VA-245-0-0"
    assert found.value == 245
    own = RateBook([], [grid("US-VA", 245), grid("aws/us-east-1", 30)], 0, [zone])
    better = own.intensity("aws/us-east-1", 0)
    assert better is not None and better.value == 30


@pytest.mark.parametrize("region", ["ATLANTIS", "", None])
def test_no_average_is_assumed_for_an_unknown_region(region: str | None) -> None:
    """Unknown stays unknown, also when the table holds a world average."""
    book = RateBook([], [grid("DEU", 380), grid("world", 475)], 0)
    assert book.valuation(resource(region), 0).intensity is None


@pytest.mark.parametrize("region", ["ATLANTIS", "", None])
def test_a_default_that_an_operator_declares_serves_unknown_regions(region: str | None) -> None:
    """Whoever wants an average says so, and its row is cited."""
    book = RateBook([], [grid("DEU", 380), grid("default", 475, recorded=9)], 9)
    found = book.valuation(resource(region), 0).intensity
    assert found is not None and found.coef_id == "default-475-0-9"
    before = RateBook([], [grid("default", 475, recorded=9)], 8)
    assert before.valuation(resource(region), 0).intensity is None


def test_a_providers_pue_is_not_applied_unless_declared_for_the_region() -> None:
    """A PUE that nobody configured would be overhead that nobody measured."""
    provider = CoefficientRow("p", "pue", "provider/aws", Fraction("1.135"), 0, 0)
    book = RateBook([], [provider], 0)
    assert book.valuation(resource("aws/us-east-1"), 0).pue is None
    declared = replace(provider, coef_id="own", key="aws/us-east-1")
    found = RateBook([], [provider, declared], 0).valuation(resource("aws/us-east-1"), 0).pue
    assert found is not None and found.coef_id == "own"


def test_a_device_without_its_own_lifespan_has_the_default_one() -> None:
    """35,040 hours unless something better is known of a device."""
    default = CoefficientRow("d", "lifespan_h", "default", Fraction(35_040), 0, 0)
    own = CoefficientRow("o", "lifespan_h", "gpu", Fraction(20_000), 5, 0)
    book = RateBook([], [default, own], 0)
    lives = [book.valuation(resource(None), at).lifespan_h for at in (4, 5)]
    assert [life.value for life in lives if life] == [35_040, 20_000]


def test_an_unknown_region_is_refused_with_those_that_are_near() -> None:
    """Somebody who forgot the provider learns the key."""
    zone = ZoneRow("z", "aws/us-east-1", "US-VA", 0, 0)
    book = RateBook([], [grid("US-VA", 245), grid("DEU", 380)], 0, [zone])
    for region, near in (("us-east-1", "aws/us-east-1"), ("DEUX", "DEU")):
        with pytest.raises(InvalidInput) as caught:
            check_region(book, region, 0)
        assert near in str(caught.value.faults[0])
        assert repr(region) in caught.value.message
        assert "unknown_region" in caught.value.hint


def test_a_known_region_and_no_region_are_both_accepted() -> None:
    """Saying nothing is a choice; carbon is unknown then."""
    book = RateBook([], [grid("DEU", 380)], 0)
    for region in ("DEU", ""):
        check_region(book, region, 0)
    check_region(RateBook([], [grid("default", 475)], 0), "ATLANTIS", 0)
