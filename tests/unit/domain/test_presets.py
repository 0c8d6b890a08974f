"""Rollout plans by name, and what a person changes of them."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.presets import PRESETS, ByHand, PresetName, adapted
from steelyard.domain.rollout_plan import Plan, check_plan, default_metrics, shortest_s
from steelyard.domain.rollout_plan_file import plan_of

NAMES = get_args(PresetName)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_can_be_carried_out(name: PresetName) -> None:
    """None asks for less proof than another: errors are required in all."""
    check_plan(PRESETS[name])
    assert PRESETS[name].metrics[:2] == default_metrics()


def test_every_name_is_a_plan() -> None:
    """The three that a workflow file may name."""
    assert set(PRESETS) == set(NAMES) == {"fast", "standard", "careful"}


def test_standard_is_what_the_design_says() -> None:
    """1, 5, 10, 25, 50, 100 %: 10 minutes, half an hour, an hour each; 100 requests a step."""
    plan = PRESETS["standard"]
    assert [step.weight_bp for step in plan.steps] == [100, 500, 1_000, 2_500, 5_000, 10_000]
    assert [step.bake_s for step in plan.steps] == [600, 1_800, 3_600, 3_600, 3_600, 0]
    assert {step.min_requests for step in plan.steps[:-1]} == {100}
    assert plan == Plan(plan.steps, default_metrics())


def test_more_care_takes_longer_and_asks_more_requests() -> None:
    """Quick is over in minutes, careful takes days, and keeps the old version warm for longer."""
    fast, standard, careful = (PRESETS[name] for name in ("fast", "standard", "careful"))
    assert shortest_s(fast) < 300 < 3_600 < shortest_s(standard) < shortest_s(careful)
    assert fast.steps[0].min_requests < standard.steps[0].min_requests
    assert standard.steps[0].min_requests < careful.steps[0].min_requests
    assert fast.keep_warm_s < standard.keep_warm_s < careful.keep_warm_s
    assert careful.alpha_promote < standard.alpha_promote == fast.alpha_promote


def test_careful_looks_for_a_bad_version_after_it_took_over() -> None:
    """The old one goes on answering one in twenty unseen, for longer than a label may take."""
    careful = PRESETS["careful"]
    assert careful.reverse_shadow_bp == 500 and careful.probation_s > careful.label_maturity_s
    tolerant = adapted(careful, ByHand(label_tolerance=2))
    assert [(m.name, m.tolerance) for m in tolerant.metrics] == [
        ("errors", 1), ("labels", 2), ("paired", 2)
    ]  # fmt: skip
    errors = [{"name": "errors", "required": True}]
    assert plan_of({"preset": "careful", "metrics": errors}).reverse_shadow_bp == 0
    assert plan_of({"preset": "careful", "probation": 0}).reverse_shadow_bp == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_without_changes_is_the_preset(name: PresetName) -> None:
    """Nothing is lost on the way through the command line."""
    assert adapted(PRESETS[name], ByHand()) == PRESETS[name]


def test_what_is_said_by_hand_counts_and_nothing_else() -> None:
    """A bake for every step, a tolerance for labels; the rest stays the preset's."""
    plan = adapted(PRESETS["fast"], ByHand(bake_s=6, label_tolerance=2, keep_warm_s=1))
    assert [step.bake_s for step in plan.steps] == [6, 6, 6, 0]
    assert [step.min_requests for step in plan.steps] == [20, 20, 20, 0]
    assert plan.metrics == default_metrics(2) and plan.keep_warm_s == 1
    assert plan.interval_s == PRESETS["fast"].interval_s


def test_other_weights_bake_like_the_step_below_them() -> None:
    """Fewer steps do not make a rollout less careful at a weight than the preset is."""
    plan = adapted(PRESETS["standard"], ByHand(weights=(0.5, 7, 60, 100)))
    assert [(step.weight_bp, step.bake_s) for step in plan.steps] == [
        (50, 600), (700, 1_800), (6_000, 3_600), (10_000, 0)
    ]  # fmt: skip
    assert plan.steps[0].min_requests == 100


@given(
    st.sampled_from(NAMES),
    st.lists(st.integers(1, 9_999), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_any_growing_weights_make_a_plan_that_can_be_carried_out(
    name: PresetName, weights_bp: list[int]
) -> None:
    """Whatever the steps, no weight is lost or rounded to another one."""
    plan = adapted(PRESETS[name], ByHand(weights=(*(w / 100 for w in weights_bp), 100)))
    check_plan(plan)
    assert [step.weight_bp for step in plan.steps] == [*weights_bp, 10_000]
    bakes = [step.bake_s for step in plan.steps[:-1]]
    assert bakes == sorted(bakes)


def test_the_manual_shows_the_presets_as_they_are() -> None:
    """Weights, requests and the chance of a wrong promotion stand in the page of commands."""
    text = (Path(__file__).parents[3] / "docs/reference/cli.md").read_text(encoding="utf-8")
    section = text.split("### `steelyard rollout start", 1)[1].split("\n### ", 1)[0]
    rows = {
        cells[0]: cells[1:]
        for line in section.splitlines()
        if line.startswith("| ") and len(cells := [c.strip() for c in line.strip("|").split("|")])
        == len(NAMES) + 1
    }  # fmt: skip
    for column, name in enumerate(NAMES):
        plan = PRESETS[name]
        weights = ", ".join(f"{step.weight_bp / 100:g}" for step in plan.steps)
        assert rows["steps, %"][column] == weights
        assert rows["requests a step"][column] == str(plan.steps[0].min_requests)
        assert rows["chance of a wrong promotion"][column] == f"{plan.alpha_promote:.0%}".replace(
            "%", " %"
        )
        assert rows["label tolerance"][column] == f"{plan.metrics[1].tolerance:g}"
