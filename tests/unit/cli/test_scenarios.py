"""Scenarios as users meet them: those that ship, a file of their own, and the page about them."""

import inspect
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from steelyard.cli.scenario_file import load, parse, shipped
from steelyard.cli.scenarios import rows, show
from steelyard.domain.calculations import CALCULATIONS
from steelyard.domain.errors import InvalidInput, NotFound
from steelyard.domain.scenario import run

PAGE = (Path(__file__).parents[3] / "docs/reference/scenarios.md").read_text("utf-8")
OWN = """
claim: Our bill is $12 a day.
calculation: daily_bill
inputs: {usd_per_day: 10, training_usd: 100}
published: {usd_per_year: 4_380}
"""
RIGHT = {
    "w1-gpt3-daily-bill": {"usd_per_day": "10000", "usd_per_year": "3650000",
                           "days_until_training_is_passed": "1000"},
    "w2-inference-overtakes-in-weeks": {"gpt3_usd_years": "2.74", "gpt4_usd_years": "1.83",
                                        "large_model_t_days": "5"},
    "w3-distilbert-size": {"percent_smaller": "40", "percent_of_original": "60"},
    "w4-gpt3-on-a100": {"fp32_devices_at_least": "9", "fp16_devices_at_least": "5",
                        "int8_devices_at_least": "3", "int4_devices_at_least": "2"},
    "w5-trillion-on-a100": {"fp32_gb": "6800", "fp32_devices_at_least": "85",
                            "fp16_devices_at_least": "43"},
    "w6-training-memory": {"gpt3_gb_at_least": "2800", "trillion_gb_at_least": "27200"},
    "w7-sparse-storage": {"fp32_int32_gb": "420", "fp32_int32_percent_smaller": "40",
                          "fp16_int32_gb": "315", "fp16_int32_percent_smaller": "10",
                          "fp16_bitmask_gb": "126.875", "fp16_bitmask_percent_smaller": "63.75"},
    "w8-price-of-a-request": {"online_usd_per_request": "1e-7"},
    "w9-large-model-price": {"low_usd_per_day": "2000", "high_usd_per_day": "6000"},
    "r1-gpt4-daily-bill": {"usd_per_year": "54750000", "days_until_training_is_passed": "666.67",
                           "first_whole_day": "667"},
    "r2-carbon-overtakes-in-days": {"example_kwh_per_year": "73000000",
                                    "example_t_per_year": "36500", "example_days": "5",
                                    "gpt3_training_days": "5.521", "at_0_24_wh_t_per_year": "4380",
                                    "at_0_24_wh_days": "41.67", "at_0_10_wh_days": "100"},
    "r3-precision-and-size": {"fp32_gb": "700", "fp16_gb": "350", "int8_gb": "175",
                              "int4_gb": "87.5"},
    "r4-batching": {"requests_per_s_at_batch_1": "20", "requests_per_s_at_batch_8": "133.33",
                    "requests_per_s_at_batch_32": "400", "items_per_s": "555.6",
                    "usd_per_item": "1e-7"},
    "r5-small-perceptron": {"params": "101770", "flop_per_sample": "203264",
                            "fp32_bytes": "407080", "int8_bytes": "102184"},
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_the_worked_examples_come_to_the_right_figures(name: str) -> None:
    """Every figure of the list of claims, to the digits that it gives (A1)."""
    found = {f.figure: f.right for f in run(load(name)).findings}
    for figure, text in RIGHT[name].items():
        value, digits = found[figure], len(text.partition(".")[2])
        assert isinstance(value, Fraction)
        assert value == Fraction(text) if "e" in text else round(value, digits) == Fraction(text)


@pytest.mark.parametrize("name", [name for name in shipped() if re.match(r"w\d-", name)])
def test_the_wrong_claims_are_refuted_and_say_why(name: str) -> None:
    """All nine (A1)."""
    outcome = run(load(name))
    assert outcome.verdict == "refuted"
    assert outcome.scenario.because


def test_nothing_that_is_right_is_refuted() -> None:
    """The other worked examples agree or have nothing to compare with (A1)."""
    refuted = [name for name in shipped() if run(load(name)).verdict == "refuted"]
    assert [name for name in refuted if not re.match(r"w\d-", name)] == [
        "chinchilla-constants", "sci-for-ai-language-model", "sci-for-ai-vision-model"
    ]  # fmt: skip
    assert len(refuted) == 12


@pytest.mark.parametrize("name", shipped())
def test_the_page_has_the_figures_that_the_code_computes(name: str) -> None:
    """Claim, source, each row and the reason; no row more."""
    section = PAGE.split(f"\n### {name}\n", 1)[1].split("\n### ", 1)[0]
    outcome = run(load(name))
    expected = [
        "| " + " | ".join("–" if cell is None else cell for cell in (f"`{figure}`", *cells)) + " |"
        for figure, *cells in rows(outcome)
    ]
    assert [line for line in section.splitlines() if line.startswith("| `")] == expected
    scenario = outcome.scenario
    for text in (scenario.claim, scenario.source, scenario.because):
        assert text in section


def test_the_page_lists_every_scenario_and_calculation() -> None:
    """With each input, those that may be left out in brackets."""
    assert re.findall(r"^### (.*)$", PAGE, re.MULTILINE) == shipped()
    table = PAGE.split("## Calculations", 1)[1].split("Inputs that hold", 1)[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", table, re.MULTILINE))
    assert sorted(listed) == sorted(CALCULATIONS)
    for name, function in CALCULATIONS.items():
        parameters = inspect.signature(function).parameters.values()
        assert listed[name] == ", ".join(
            f"`{p.name}`" if p.default is p.empty else f"[`{p.name}`]" for p in parameters
        )


def test_the_example_on_the_page_can_be_run() -> None:
    """Whoever copies it gets figures and a verdict."""
    example = PAGE.split("```yaml\n", 1)[1].split("```", 1)[0]
    outcome = run(parse(example, "example"))
    assert outcome.findings[0].right == 36
    assert outcome.verdict == "refuted"


def test_all_shipped_scenarios_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name: each with its claim, and how many are refuted."""
    show(None, as_json=False)
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in shipped())
    assert "usd_per_day is 10,000, not 500,000: published 50 times too high" in printed
    assert "12 of 32 refuted" in printed


def test_a_scenario_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Whole numbers are exact, what is not published is null."""
    show("gpt3-training-energy", as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    (scenario,) = document["scenarios"]
    assert scenario["verdict"] == "agrees"
    time, energy, _ = scenario["figures"]
    assert (time["right"], time["published_low"]) == (12_787_200_000_000_000, None)
    assert (energy["figure"], energy["right"], energy["verdict"]) == (
        "energy_kwh", 1_289_376, "agrees"
    )  # fmt: skip


def test_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read from any path; its name is the file's."""
    path = tmp_path / "chat.yaml"
    path.write_text(OWN, encoding="utf-8")
    show(str(path), as_json=False)
    printed = capsys.readouterr().out
    assert "chat: Our bill is $12 a day." in printed
    assert "usd_per_year is 3,650, not 4,380: published 1.2 times too high" in printed


def test_what_is_neither_a_scenario_nor_a_file_is_not_found(tmp_path: Path) -> None:
    """The message names the scenarios, or why the file cannot be read."""
    with pytest.raises(NotFound, match="w1-gpt3-daily-bill"):
        load("no-such")
    with pytest.raises(NotFound, match="cannot be read"):
        load(str(tmp_path / "missing.yaml"))


def test_numbers_are_what_was_written() -> None:
    """0.1 is a tenth, and powers of ten and underscores are numbers."""
    text = OWN.replace("10,", "0.1,").replace("100}", "1e3}")
    assert parse(text, "own").inputs == {
        "usd_per_day": Fraction(1, 10),
        "training_usd": Fraction(1000),
    }


def test_all_faults_of_a_file_come_at_once() -> None:
    """Each with its place: keys, inputs, published ranges."""
    text = """
claim: ""
calculation: overtaking
inputs:
  cases:
    a: {training: many, per_day: 1}
    b: {training: 1, per_day: 1, per_year: 365}
  speed: 3
published: {a_days: {from: 1}}
reason: none
"""
    with pytest.raises(InvalidInput) as refused:
        parse(text, "broken")
    assert {fault.where for fault in refused.value.faults} == {
        "claim", "inputs.cases.a.training", "inputs.cases.b.per_year", "inputs.speed",
        "published.a_days", "reason",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claim: [", "not YAML"),
        ("- a list", "not a mapping"),
        ("", "not a mapping"),
        ("a: &x 1\nb: *x", "alias"),
        ("claim: x\ncalculation: none\ninputs: {}", "not a usable scenario"),
        ("claim: x", "not a usable scenario"),
    ],
)
def test_what_is_no_scenario_is_refused(text: str, message: str) -> None:
    """With a sentence about what was found."""
    with pytest.raises(InvalidInput, match=message):
        parse(text, "broken")
