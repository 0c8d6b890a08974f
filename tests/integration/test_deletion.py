"""``steelyard models delete``, as an operator types it, on a real registry."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from steelyard.bootstrap import Platform
from steelyard.cli.app import FAILED, OK, USAGE
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.deletion import DAY_US
from steelyard.domain.errors import NotFound
from steelyard.ports.applications import ApplicationState

pytestmark = pytest.mark.integration

Ask = Callable[..., tuple[int, str, str]]
WHY = ("--yes", "--reason", "nobody uses it")


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command of ``models`` as an operator: exit code, standard output, standard error."""
    return typed(seeded, "models")


def test_a_version_that_nothing_needs_goes_and_its_history_stays(
    seeded: Platform, ask: Ask
) -> None:
    """The registry has it no more; what it cost, who deleted it and why is all there."""
    before = seeded.statements.model("wide")
    sha256 = seeded.registry.version("wide", 1).sha256
    code, out, err = ask("delete", "wide/1", *WHY, "--json")
    assert code == OK, err
    done = json.loads(out)
    assert (done["version"], done["sha256"], done["reason"]) == (1, sha256, "nobody uses it")
    assert done["actor"].startswith("user:")
    with pytest.raises(NotFound, match="wide has no version 1"):
        seeded.registry.version("wide", 1)
    assert [v.training for v in seeded.statements.model("wide").versions] == [
        v.training for v in before.versions
    ]
    code, out, err = ask("show", "wide", "--json")
    assert code == OK, err
    assert [one["version"] for one in json.loads(out)["deletions"]] == [1]
    assert seeded.audits.verify().broken == ()
    assert ask("show", "wide")[0] == OK
    code, _, err = ask("delete", "wide/1", *WHY)
    assert code == FAILED and "wide has no version 1" in err


def test_what_is_in_use_stays_and_every_reason_is_named(seeded: Platform, ask: Ask) -> None:
    """The stable version, from which a candidate was made; nothing is changed."""
    code, _, err = ask("delete", "digits/1", *WHY)
    assert code == FAILED
    assert "digits/1 stays: it serves, or is what an open rollout would return to" in err
    assert "version 2 in service was made from it" in err
    assert "its predictions are kept for ever" in err
    assert seeded.registry.version("digits", 1).version == 1
    assert seeded.deletions.history("digits") == []
    code, _, err = ask("delete", "digits/2", *WHY)
    assert code == FAILED and "it is in an open rollout" in err


def test_a_rollback_s_target_stays_after_it_is_cold(seeded: Platform, ask: Ask) -> None:
    """Also when nothing runs it any more and nobody's evidence leans on it."""
    seeded.rollouts.act("digits", "promote_full", "ada")
    for _ in range(2):
        _reconcile(seeded)
    seeded.operations.drain("digits", 1, "ada")
    code, _, err = ask("delete", "digits/1", *WHY)
    assert code == FAILED
    assert "a rollback would return to it" in err and "kept warm" not in err


def test_it_could_go_when_its_predictions_are_past_their_time(seeded: Platform, ask: Ask) -> None:
    """The message names the moment."""
    now = seeded.clock.now_us()
    last_us = now - 3 * DAY_US
    record = PredictionRecord("old", "wide", 1, "d" * 64, "r", "stable", "-", 1, 1, last_us, 5, 1,
                              200)  # fmt: skip
    seeded.facts.ingest([record], now)
    seeded.policies.change("wide", {"retention_days": 7}, "ada")
    code, _, err = ask("delete", "wide/1", *WHY)
    assert code == FAILED
    assert "its predictions are kept for 7 days, until 20" in err
    seeded.policies.change("wide", {"retention_days": 3}, "ada")
    assert ask("delete", "wide/1", *WHY)[0] == OK


def test_an_alias_of_somebody_s_own_keeps_it(seeded: Platform, ask: Ask) -> None:
    """MLflow would drop the alias with the version, without a word."""
    seeded.registry.set_alias("wide", "paper", 1)
    code, _, err = ask("delete", "wide/1", *WHY)
    assert code == FAILED and "the registry names it paper" in err
    seeded.registry.drop_alias("wide", "paper")
    assert ask("delete", "wide/1", *WHY)[0] == OK


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--reason", "x"), "--yes: is missing: wide/1 would be taken out of the registry"),
        (("--yes",), "reason: is empty"),
        (("--yes", "--reason", "  "), "reason: is empty"),
    ],
)
def test_it_is_meant_or_it_is_not_done(
    seeded: Platform, ask: Ask, words: tuple[str, ...], told: str
) -> None:
    """Deleting cannot be undone, so it is said twice, and why."""
    code, _, err = ask("delete", "wide/1", *words)
    assert code == USAGE and told in err
    assert seeded.registry.version("wide", 1).version == 1


def test_only_an_operator_deletes(seeded: Platform, ask: Ask) -> None:
    """Whoever cannot read the operators' key may not."""
    (seeded.settings.secret_dir / "api.token").unlink()
    code, _, err = ask("delete", "wide/1", *WHY)
    assert code == FAILED and "Only an operator may do this" in err


def _reconcile(platform: Platform) -> None:
    """One turn for the model, with an edge that confirms at once."""
    now = platform.clock.now_us()
    token = platform.rollout_store.leases.acquire("controller", "test", now, 60_000_000)
    assert token is not None
    ready: Any = {("digits", n): ApplicationState("ready") for n in (1, 2)}
    (found,) = platform.rollouts.turns.all(ready, 0, token)
    platform.rollouts.confirm("digits", found.after.generation, token)
