from dataclasses import replace
from datetime import date

import pytest

from steelyard.services import words
from steelyard.services.accounts import Received
from steelyard.services.economics import BreakEvenOutlook, PayBackOutlook, PerThousand
from steelyard.services.outlooks import ForecastLine


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (PayBackOutlook("unknown"), "unknown yet"),
        (PayBackOutlook("never", point_estimate=False),
         "never (infinite): a request is not cheaper than the parent's"),
        (PayBackOutlook("never"),
         "never (infinite): a request is not cheaper than the parent's; a point estimate"),
        (PayBackOutlook("pays", 2_000, 1_250, 4_000, 4.0, 28, point_estimate=False),
         "after 2,000 requests, 4 days [1,250, 4,000], 95 %"),
        (PayBackOutlook("not_proven", 2_000, 1_250, None, 4.0, 28, point_estimate=False),
         "not proven: after 2,000 requests, 4 days [1,250, ∞)"),
        (PayBackOutlook("not_proven", 2_000, paired_days=3),
         "not proven: after about 2,000 requests; a point estimate, 3 of 14 paired days"),
    ],
)  # fmt: skip
def test_a_pay_back_says_what_is_proven(found: PayBackOutlook, said: str) -> None:
    """Infinite and unproven are words, and a point estimate is never taken for more (A23)."""
    assert words.pay_back(found) == said


def test_a_saving_is_said_with_its_interval_in_the_unit_of_what_is_saved() -> None:
    """Per 1,000 requests; unknown is not said, and no interval is made up."""
    found = PayBackOutlook("pays", saving_per_1000=10**9, saving_per_1000_low=5 * 10**8,
                           saving_per_1000_high=2 * 10**9)  # fmt: skip
    assert words.saving(found, "cost_nano") == "saves $1.00 [$0.50, $2.00] per 1,000 requests"
    point = PayBackOutlook("not_proven", saving_per_1000=1_500)
    assert words.saving(point, "energy_mj") == "saves 1.5 J per 1,000 requests"
    assert words.saving(PayBackOutlook("unknown"), "carbon_ug") is None


def test_a_break_even_has_interval_and_date() -> None:
    """Ahead, behind, open above, and before the first whole day."""
    ahead = BreakEvenOutlook(667, 500, 1_000, expected_on=date(2028, 9, 18), unit_cost_days=28)
    assert words.break_even_outlook(ahead) == (
        "667 requests [500, 1,000]; expected on 2028-09-18 "
        "(cost of 28 complete days; 95 % interval)"
    )
    behind = replace(ahead, expected_on=None, crossed_on=date(2026, 1, 2), requests_high=None)
    assert "[500, ∞]; crossed on 2026-01-02" in words.break_even_outlook(behind)
    assert "unknown until a whole day" in words.break_even_outlook(BreakEvenOutlook(5))


def test_completeness_tells_what_may_be_missing_unseen() -> None:
    """A producer that never said its last number may have lost more than is known."""
    assert words.completeness(Received(3, 4, 2, 1, 0.75)) == (
        "complete: 75 % of 4 windows; 1 of 2 producers gave no last number"
    )
    assert words.completeness(Received(0, 0, 0, 0, None)) == "no windows were expected"


def test_energy_is_told_best_method_first() -> None:
    """Every method with its share and what it may be wrong by."""
    assert words.tiers({"modelled_load": 1, "counter_gpu": 3}) == (
        "energy found by: 75 % GPU counter ±10 %, 25 % load model ±50 %"
    )
    assert words.tiers({}) == "energy: unknown"


def test_a_unit_cost_has_its_interval_in_the_same_words() -> None:
    """Without an interval there is none, and unknown is a dash."""
    assert words.per_thousand("cost_nano", PerThousand(10**9, 9 * 10**8, 2 * 10**9, 14)) == (
        "$1.00 [$0.90, $2.00]"
    )
    assert words.per_thousand("energy_mj", PerThousand(None)) == "–"


def test_a_unit_cost_tells_what_coefficients_may_change() -> None:
    """Beside the interval over days, not in its place."""
    found = PerThousand(5_000, 4_000, 6_000, 14, 2_500, 10_000)
    assert words.per_thousand("energy_mj", found) == (
        "5 J [4 J, 6 J] (2.5 J to 10 J by coefficients)"
    )
    assert words.coefficient_range("energy_mj", PerThousand(5_000)) is None


def test_a_forecast_says_how_sure_it_is_or_what_is_missing() -> None:
    """The band's chance; missing days; missing weeks."""
    day = date(2026, 11, 30)
    line = ForecastLine("cost_nano", "month", day, day, 1, 1, 0, 2, 1, 3, 0.8, 0, 0, 0.0)
    assert words.how_sure(line) == "band holds with 80 %"
    assert "2 days are unknown" in words.how_sure(replace(line, unknown_days=2))
    assert "need 3 more week(s)" in words.how_sure(replace(line, coverage=None, missing_weeks=3))
    assert "18 of the last 28 days" in words.how_sure(replace(line, missing_days=18))
