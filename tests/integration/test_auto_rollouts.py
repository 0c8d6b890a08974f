"""Compressed variants that roll out by themselves, from registration to the begun rollout."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from steelyard.bootstrap import Platform
from steelyard.cli.app import OK, USAGE
from steelyard.domain.model_version import Candidate, ModelVersion
from steelyard.domain.presets import PRESETS
from steelyard.domain.rollout import Rollout
from steelyard.ports.applications import ApplicationState
from steelyard_serving.registry_watch import RegistryWatch

pytestmark = pytest.mark.integration

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def idle(seeded: Platform) -> Platform:
    """``digits/1`` serves, the rollout of ``digits/2`` was aborted, nothing is open."""
    seeded.rollouts.act("digits", "abort", "ada")
    _turn(seeded)
    _turn(seeded)
    assert not seeded.rollout_store.all_open()
    return seeded


@pytest.fixture
def ask(idle: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command of ``rollout`` as an operator: exit code, standard output and error."""
    return typed(idle, "rollout")


def publish(platform: Platform, **changes: Any) -> ModelVersion:
    """Register ``digits/2`` once more, with changes; the platform learns of it."""
    model = platform.registry.version("digits", 2)
    values = {field.name: getattr(model, field.name) for field in fields(Candidate)}
    made = platform.registry.register(Candidate(**{**values, **changes}))
    platform.learn_versions()
    return made


def look(platform: Platform) -> list[Rollout]:
    """The controller looks at the registry; the rollouts that are open then."""
    RegistryWatch(platform).turn(_token(platform))
    return [stored.rollout for stored in platform.rollout_store.all_open()]


def test_a_variant_that_passed_its_gates_begins_once(idle: Platform, ask: Ask) -> None:
    """By the plan that was named, on record as the policy's; aborted, it is not tried again."""
    assert ask("auto", "digits", "--plan", "careful", "--reason", "int8 of what serves")[0] == OK
    assert look(idle) == []  # digits/2 was rolled out before
    made = publish(idle)
    (rollout,) = look(idle)
    assert (rollout.candidate, rollout.stable, rollout.kind) == (made.version, 1, "canary")
    assert rollout.plan.steps == PRESETS["careful"].steps
    assert rollout.created_by == "policy:digits"
    event = idle.rollout_store.events(rollout.rollout_id)[0]
    assert (event["actor"], event["verb"]) == ("policy:digits", "start")
    assert "passed its gates" in event["reason"] and "plan careful" in event["reason"]
    assert look(idle) == [rollout]
    _, explained, _ = ask("explain", "digits")
    assert "policy:digits" in explained
    idle.rollouts.act("digits", "abort", "ada", "not today")
    assert look(idle) == []


def test_only_one_begins_at_a_time(idle: Platform, ask: Ask) -> None:
    """The lower number first; the other waits until nothing is open."""
    ask("auto", "digits", "--plan", "fast")
    first, second = publish(idle), publish(idle)
    assert [rollout.candidate for rollout in look(idle)] == [first.version]
    idle.rollouts.act("digits", "abort", "ada")
    assert [rollout.candidate for rollout in look(idle)] == [second.version]


@pytest.mark.parametrize(
    "changes",
    [
        {"relation": "trained", "parent": None},
        {"relation": "finetuned"},
        {"evidence": None},
        {"parent": 2},
    ],
)
def test_nothing_else_begins(idle: Platform, ask: Ask, changes: dict[str, Any]) -> None:
    """Not an ordinary version, one without evidence, or the variant of another version."""
    ask("auto", "digits", "--plan", "fast")
    publish(idle, **changes)
    assert look(idle) == []


def test_a_variant_that_fails_its_gates_waits_and_it_is_said_why(idle: Platform, ask: Ask) -> None:
    """It begins when they are passed, whoever changed what."""
    ask("auto", "digits", "--plan", "fast")
    evidence = idle.registry.version("digits", 2).evidence
    assert evidence is not None
    made = publish(idle, evidence=replace(evidence, parent_only_right=80, own_only_right=0))
    assert look(idle) == []
    _, out, _ = ask("status", "digits", "--json")
    (waiting,) = json.loads(out)["waiting"]
    assert waiting["version"] == made.version and waiting["why_not"].startswith("quality fail")
    _, shown, _ = ask("status", "digits")
    assert f"auto: digits/{made.version}: quality fail" in shown
    idle.gates.set_policy("digits", {"max_quality_loss": None}, "ada", "speed matters more")
    assert [rollout.candidate for rollout in look(idle)] == [made.version]


def test_it_is_off_by_default_and_can_be_switched_off(idle: Platform, ask: Ask) -> None:
    """Publishing moves no traffic; what was set and by whom is kept."""
    publish(idle)
    assert look(idle) == []
    ask("auto", "digits", "--plan", "fast")
    assert look(idle) == []  # it was there before
    code, out, err = ask("auto", "digits", "--off", "--reason", "a freeze", "--json")
    assert code == OK, err
    publish(idle)
    assert look(idle) == []
    kept = json.loads(out)["history"]
    assert [(one["plan_name"], one["reason"]) for one in kept] == [("fast", ""), ("", "a freeze")]
    assert "nothing rolls out by itself" in ask("auto", "digits")[1]


def test_what_cannot_be_meant_is_refused(idle: Platform, ask: Ask) -> None:
    """An unknown plan, an unknown model, on and off at once: nothing is set."""
    code, _, err = ask("auto", "digits", "--plan", "yolo")
    assert code == USAGE and "yolo" in err
    code, _, err = ask("auto", "digits", "--plan", "fast", "--off")
    assert code == USAGE and "opposite" in err
    code, _, err = ask("auto", "nobody", "--plan", "fast")
    assert code != OK and "There is no model 'nobody'" in err
    assert idle.auto_rollouts.history("digits") == []


def _token(platform: Platform) -> int:
    now = platform.clock.now_us()
    token = platform.rollout_store.leases.acquire("controller", "test", now, 60_000_000)
    assert token is not None
    return token


def _turn(platform: Platform) -> None:
    """One turn for the model, with an edge that confirms at once."""
    token = _token(platform)
    ready = {("digits", n): ApplicationState("ready") for n in (1, 2)}
    (found,) = platform.rollouts.turns.all(ready, 0, token)
    platform.rollouts.confirm("digits", found.after.generation, token)
