"""``steelyard rollout plan``, as people type it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steelyard.bootstrap import Platform
from steelyard.cli.app import FAILED, OK, USAGE
from steelyard.domain.e_process import Interval

Ask = Callable[..., tuple[int, str, str]]
PLAN = """
steps: [{weight: 5, bake: 10m}, {weight: 100}]
metrics: [{name: errors, floor: 0.01, required: true}]
"""


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Types ``rollout plan``: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    return typed(seeded, "rollout", "plan")


def _json(ask: Ask, *words: str) -> dict[str, Any]:
    code, out, err = ask(*words, "--json")
    assert code == OK, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_rehearsal_says_what_the_rollout_takes(ask: Ask) -> None:
    """The old version's hour of keeping warm has a price; what has no traffic to tell is null."""
    found = _json(ask, "digits", "--preset", "standard")
    assert found["estimated"] is True
    warm = found["spend"]["warm"]
    assert warm["device_us"] == 3_600_000_000 and warm["cost_nano"] > 0
    assert (found["found"]["promote_s"] is None) == (found["spend"]["canary_least"] is None)
    assert found["found"]["guard_s"] > found["plan"]["interval_s"]
    code, shown, _ = ask("digits")
    assert code == OK
    assert "old version, kept warm" in shown and "estimated" in shown


def _open(seeded: Platform) -> str:
    return next(s.rollout.rollout_id for s in seeded.rollout_store.rollouts("digits")
                if s.rollout.kind == "canary")  # fmt: skip


def test_a_past_rollout_is_decided_again_with_another_plan(
    ask: Ask, seeded: Platform, tmp_path: Path
) -> None:
    """From a certain interval on the canary was worse; a plan that bears it says nothing."""
    rollout_id = _open(seeded)
    for minute in range(10):
        row = {(1, minute * 60_000_000): Interval(100, 8, 900, 9)}
        seeded.rollout_store.observations.keep(rollout_id, "errors", row, 10**15 + minute)
    (tmp_path / "strict.yaml").write_text(PLAN)
    (tmp_path / "mild.yaml").write_text(PLAN.replace("floor: 0.01", "tolerance: 9, margin: 18"))
    strict, mild = (
        _json(ask, "digits", "--plan", str(tmp_path / name), "--replay", rollout_id)
        for name in ("strict.yaml", "mild.yaml")
    )
    assert strict["outcome"] == "rolled back"
    assert strict["turns"][-1]["at_us"] == strict["at_us"] >= 10**15
    assert mild["outcome"] != "rolled back"
    code, shown, _ = ask("digits", "--plan", str(tmp_path / "strict.yaml"), "--replay", rollout_id)
    assert code == OK and "With this plan: rolled back at" in shown


def test_a_replay_of_nothing_is_refused(ask: Ask, seeded: Platform) -> None:
    """An id that is nobody's, and a first deployment, of which no interval was kept."""
    code, _, err = ask("digits", "--replay", "nobody")
    assert (code, "There is no rollout nobody" in err) == (FAILED, True)
    first = next(s.rollout.rollout_id for s in seeded.rollout_store.rollouts("digits")
                 if s.rollout.kind == "first")  # fmt: skip
    code, _, err = ask("digits", "--replay", first)
    assert code != OK and "No interval" in err
    assert ask("digits", "--worse", "1")[0] == USAGE
