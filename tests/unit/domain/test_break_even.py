from datetime import date
from fractions import Fraction

import pytest

from steelyard.domain.break_even import (
    BreakEven,
    PayBack,
    PayBackEstimate,
    break_even,
    break_even_estimate,
    crossed_on,
    pay_back,
    pay_back_estimate,
)
from steelyard.domain.unit_economics import Estimate


@pytest.mark.parametrize(
    ("training", "inference", "requests", "rate", "expected"),
    [
        (100, 10, 20, None, BreakEven(200, None, False)),
        (100, 10, 20, 50.0, BreakEven(200, 4.0, False)),
        (100, 100, 20, 10.0, BreakEven(20, 2.0, True)),
        (100, 99, 20, None, BreakEven(21, None, False)),
        (0, 10, 20, None, BreakEven(0, None, True)),
    ],
)
def test_inference_overtakes_training_after_so_many_requests(
    training: int, inference: int, requests: int, rate: float | None, expected: BreakEven
) -> None:
    """R* = training / cost per request, rounded up; days need a measured rate."""
    assert break_even(training, inference, requests, rate) == expected


@pytest.mark.parametrize(("inference", "requests"), [(0, 0), (10, 0), (0, 10)])
def test_without_served_requests_the_break_even_is_unknown(inference: int, requests: int) -> None:
    """Unknown, never 0 and never crossed."""
    assert break_even(100, inference, requests, 5.0) == BreakEven(None, None, False)


def test_the_published_daily_bill_breaks_even_on_day_667() -> None:
    """$150,000 a day against $100M: 666.67 days, wherever the request is cut."""
    found = break_even(100_000_000, 150_000, 1_000, 1_000.0)
    assert found.requests == 666_667
    assert found.days == pytest.approx(666.667)


@pytest.mark.parametrize(
    ("parent", "variant", "expected"),
    [
        ((20, 10), (10, 10), PayBack("pays", 2_000, Fraction(1))),
        ((10, 3), (10, 7), PayBack("pays", 1_050, Fraction(40, 21))),
        ((10, 10), (10, 10), PayBack("never", None, Fraction(0))),
        ((10, 10), (20, 10), PayBack("never", None, Fraction(-1))),
        ((0, 0), (10, 10), PayBack("unknown")),
        ((10, 10), (0, 0), PayBack("unknown")),
    ],
)
def test_a_variant_pays_itself_back_by_what_its_requests_save(
    parent: tuple[int, int], variant: tuple[int, int], expected: PayBack
) -> None:
    """Exact fractions; no saving is "never", and no traffic on either side is "unknown"."""
    assert pay_back(2_000, parent, variant) == expected


def estimate(value: str | None, low: str | None = None, high: str | None = None) -> Estimate:
    """A unit cost or a saving with its interval, from decimal text."""
    ends = [None if end is None else Fraction(end) for end in (value, low, high)]
    return Estimate(ends[0], ends[1], ends[2], 28)


def test_the_published_daily_bill_as_a_real_value_and_a_whole_day() -> None:
    """$150,000 a day against $100M: 666.67 days, and the first whole day is 667 (A1: R1)."""
    found = break_even_estimate(100_000_000, estimate("1.5"), Fraction(100_000))
    assert found.days == Fraction(2000, 3)
    assert found.first_whole_day == 667
    assert found.requests == Fraction(200_000_000, 3)


def test_an_uncertain_unit_cost_makes_an_uncertain_break_even() -> None:
    """A dearer request breaks even earlier, so the ends change places."""
    found = break_even_estimate(100, estimate("2", "1", "4"))
    assert [found.requests, found.low, found.high] == [50, 25, 100]
    assert found.days is None
    assert found.first_whole_day is None


@pytest.mark.parametrize("cost", [None, "0"])
def test_an_unknown_or_free_request_never_says_when(cost: str | None) -> None:
    """Unknown, never 0 and never infinite."""
    assert break_even_estimate(100, estimate(cost), Fraction(1)).requests is None


def test_a_whole_number_of_days_is_its_own_first_whole_day() -> None:
    """The edge: at the end of that day inference has cost exactly what training did."""
    assert break_even_estimate(100, estimate("10"), Fraction(1)).first_whole_day == 10
    assert break_even_estimate(101, estimate("10"), Fraction(1)).first_whole_day == 11


def test_the_day_of_the_crossing_is_named_once_it_happened() -> None:
    """The first day at whose end the sum has reached the training's cost, in any order given."""
    daily = [(date(2024, 1, day), 40) for day in (3, 1, 2)]
    assert crossed_on(120, daily) == date(2024, 1, 3)
    assert crossed_on(80, daily) == date(2024, 1, 2)
    assert crossed_on(121, daily) is None
    assert crossed_on(10, []) is None


def test_a_variant_whose_saving_is_proven_pays() -> None:
    """$2 at $0.001 (0.0005 to 0.0016), 500 a day: 2000 [1250, 4000] requests, 4 days (A23)."""
    saving = estimate("0.001", "0.0005", "0.0016")
    assert pay_back_estimate(2, saving, Fraction(500)) == PayBackEstimate(
        "pays", Fraction(2000), Fraction(1250), Fraction(4000), Fraction(4)
    )


def test_a_saving_that_may_be_nothing_is_not_proven() -> None:
    """With a lower end of -0.0001 the range is [1250, ∞) (A23)."""
    saving = estimate("0.001", "-0.0001", "0.0016")
    assert pay_back_estimate(2, saving, Fraction(500)) == PayBackEstimate(
        "not_proven", Fraction(2000), Fraction(1250), None, Fraction(4)
    )


@pytest.mark.parametrize(
    ("making", "saving", "expected"),
    [
        (2, ("-0.1", "-0.2", "0"), PayBackEstimate("never")),
        (2, ("0.1", "0", "0.2"), PayBackEstimate("not_proven", Fraction(20), Fraction(10))),
        (2, ("-0.1", "-0.2", "0.1"), PayBackEstimate("not_proven", None, Fraction(20))),
        (2, ("0.1", None, None), PayBackEstimate("unknown", Fraction(20))),
        (2, ("-0.1", None, None), PayBackEstimate("unknown")),
        (2, (None, None, None), PayBackEstimate("unknown")),
        (None, ("0.1", "0.1", "0.1"), PayBackEstimate("unknown")),
        (0, ("0.1", "0.1", "0.2"), PayBackEstimate("pays", *[Fraction(0)] * 3)),
    ],
)
def test_the_verdict_follows_the_interval(
    making: int | None, saving: tuple[str | None, str | None, str | None], expected: PayBackEstimate
) -> None:
    """0 at an end is not above 0; without an interval or a making cost nothing is proven (A23)."""
    assert pay_back_estimate(making, estimate(*saving)) == expected
