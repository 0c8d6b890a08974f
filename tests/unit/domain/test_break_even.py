from fractions import Fraction

import pytest

from steelyard.domain.break_even import BreakEven, PayBack, break_even, pay_back


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
