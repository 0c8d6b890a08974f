from fractions import Fraction
from typing import Any

import pytest

from steelyard.domain.calculations import CALCULATIONS
from steelyard.domain.errors import InvalidInput
from steelyard.domain.scenario import Outcome, Published, Scenario, Verdict, run, shown

BILL = {
    "requests_per_day": Fraction(100_000_000),
    "tokens_per_request": Fraction(50),
    "usd_per_1000_tokens": Fraction("0.002"),
    "training_usd": Fraction(10_000_000),
}


def bill(published: dict[str, Published], tolerance: Fraction = Fraction(0)) -> Outcome:
    """GPT-3's daily bill against what somebody published."""
    scenario = Scenario("bill", "a claim", "token_bill", BILL, published, tolerance=tolerance)
    return run(scenario)


def point(value: str) -> Published:
    """A published figure that is no range."""
    return Published(Fraction(value), Fraction(value))


def test_gpt3_costs_ten_thousand_dollars_a_day() -> None:
    """Not 500,000; and training is passed after 1,000 days, not 20 (A1: W1)."""
    published = {
        "usd_per_day": point("500000"),
        "usd_per_year": point("182000000"),
        "days_until_training_is_passed": point("20"),
    }
    outcome = bill(published, Fraction(1, 100))
    right = {f.figure: f.right for f in outcome.findings}
    assert right["usd_per_day"] == 10_000
    assert right["usd_per_year"] == 3_650_000
    assert right["days_until_training_is_passed"] == 1_000
    assert outcome.verdict == "refuted"
    assert outcome.findings[0].factor == 50


@pytest.mark.parametrize(
    ("published", "tolerance", "verdict"),
    [
        (point("10000"), "0", "agrees"),
        (point("10100"), "0.01", "agrees"),
        (point("10101"), "0.01", "refuted"),
        (point("9899"), "0.01", "refuted"),
        (Published(Fraction(9_000), Fraction(11_000)), "0", "agrees"),
        (Published(Fraction(10_001), Fraction(11_000)), "0", "refuted"),
        (Published(Fraction(10_000), None), "0", "agrees"),
        (Published(Fraction(10_001), None), "0", "refuted"),
        (Published(None, Fraction(10_000)), "0", "agrees"),
        (Published(None, Fraction(9_999)), "0", "refuted"),
    ],
    ids=str,
)
def test_a_published_figure_agrees_up_to_the_tolerance(
    published: Published, tolerance: str, verdict: Verdict
) -> None:
    """10,000 is right; figures, ranges and open ends, on both sides of the edge."""
    assert bill({"usd_per_day": published}, Fraction(tolerance)).verdict == verdict


def test_one_wrong_figure_refutes_a_claim() -> None:
    """The others keep their own verdict; figures that nobody published have none."""
    outcome = bill({"usd_per_day": point("10000"), "usd_per_year": point("1")})
    assert [f.verdict for f in outcome.findings] == [
        "agrees", "refuted", "not_published", "not_published"
    ]  # fmt: skip
    assert outcome.verdict == "refuted"
    assert bill({}).verdict == "not_published"


def test_a_number_where_the_answer_is_unknown_is_refuted() -> None:
    """Training that inference never passes has no day."""
    free = Scenario("free", "", "daily_bill",
                    {"usd_per_day": Fraction(0), "training_usd": Fraction(5)},
                    {"days_until_training_is_passed": point("7")})  # fmt: skip
    finding = run(free).findings[1]
    assert (finding.right, finding.verdict, finding.factor) == (None, "refuted", None)


def test_a_scenario_that_cannot_be_run_names_what_there_is() -> None:
    """An unknown calculation, and a published figure that is not calculated."""
    with pytest.raises(InvalidInput, match="token_bill"):
        run(Scenario("x", "", "no_such", {}))
    with pytest.raises(InvalidInput, match="usd_per_day") as refused:
        bill({"usd_per_month": point("1")})
    assert [fault.where for fault in refused.value.faults] == ["published.usd_per_month"]


def test_a_figure_beyond_all_numbers_is_refused() -> None:
    """A slip of the finger in a power of ten gets a sentence."""
    with pytest.raises(InvalidInput, match="no figure can be calculated"):
        run(Scenario("x", "", "compute_optimal_model", {"training_flop": Fraction(10**400)}))


IMPOSSIBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "a node used to 110 %": ("shared_node", {"usd": Fraction(1), "percent_used": {
        "a": Fraction(110)}}),
    "a network of one layer": ("perceptron", {"layers": [5]}),
    "a week of six days": ("weekly_forecast", {"week": [1] * 6, "weeks": 12}),
    "three weeks": ("weekly_forecast", {"week": [1] * 7, "weeks": 3}),
    "constants of nobody": ("compute_optimal_model", {"training_flop": Fraction(10**20),
                                                      "constants": "nobody"}),
    "a job of no minutes": ("throughput", {"batches": [], "items": Fraction(1),
                                           "minutes": Fraction(0), "usd": Fraction(1)}),
    "device-hours and a count": ("device_energy", {"power_w": Fraction(1), "devices": 8,
                                                   "device_h": Fraction(54)}),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_inputs_are_refused(what: str) -> None:
    """With a message, not with a figure."""
    calculation, inputs = IMPOSSIBLE[what]
    with pytest.raises(InvalidInput):
        CALCULATIONS[calculation](**inputs)


def test_a_short_history_has_a_forecast_without_a_band() -> None:
    """Five weeks: a total, and no width."""
    found = CALCULATIONS["weekly_forecast"](week=[100] * 7, weeks=5)
    assert found["next_week"] == 700
    assert found["band_width"] is None
    assert found["coverage"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(100), "100"),
        (Fraction(-5, 2), "-2.5"),
        (Fraction("28.538812785388"), "28.5388128"),
        (Fraction(2_057_142_857_143), "2,057,142,857,143"),
        (Fraction("0.0001"), "0.0001"),
        (Fraction("0.00002"), "2e-5"),
    ],
    ids=str,
)
def test_figures_are_shown_for_people(value: Fraction, text: str) -> None:
    """Every digit before the point, nine at most after rounding, powers of ten at the far ends."""
    assert shown(value) == text
