"""The registry's aliases beside our own history, on a real MLflow that others write to as well."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count

import pytest
from fastapi.testclient import TestClient
from tests.killer import KilledError, Killer
from tests.nothing_served import BareEdge
from tests.registry_client import client_of

from steelyard.api.app import create_app
from steelyard.bootstrap import Platform
from steelyard.cli.app import OK
from steelyard.cli.app import run as steelyard
from steelyard.domain.errors import Conflict, NotFound, Refused
from steelyard.domain.presets import PRESETS
from steelyard.domain.promotion import serving_at, stable_version
from steelyard.domain.rollout import Rollout
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ONE, ApplicationState, Replicas, ServedVersion
from steelyard_serving.controller import Controller
from steelyard_serving.registry_watch import EVERY_S, RegistryWatch

pytestmark = pytest.mark.integration

SECOND = 1_000_000
Turn = Callable[[], "Machine"]


class Machine(BareEdge):
    """A machine on which whatever is asked for is ready, and an edge that obeys."""

    def __init__(self) -> None:
        self.running: dict[tuple[str, int], ServedVersion] = {}
        self.routes: Mapping[str, Route] = {}

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """It runs from the very file that it is handed."""
        assert served.artifact.stat().st_size == served.version.size_bytes
        self.running[served.version.model, served.version.version] = served

    def remove(self, model: str, version: int) -> None:
        """It stops."""
        self.running.pop((model, version), None)

    def states(self) -> Mapping[tuple[str, int], ApplicationState]:
        """All are ready."""
        return dict.fromkeys(self.running, ApplicationState("ready"))

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """Traffic goes where it should."""
        self.routes = routes


@pytest.fixture
def turn(seeded: Platform) -> Turn:
    """A turn of the controller, so long after the one before that it looks at the registry."""
    machine = Machine()
    controller = Controller(seeded, machine, machine, holder="test")
    seconds = count(0.0, EVERY_S)
    controller.__dict__["_watch"].now_s = lambda: next(seconds)

    def turn() -> Machine:
        assert controller.turn()
        return machine

    return turn


def open_rollout(platform: Platform) -> Rollout:
    """The open rollout of ``digits``."""
    (found,) = [stored.rollout for stored in platform.rollout_store.all_open()]
    return found


def test_aliases_follow_promotions_and_rollouts(seeded: Platform, turn: Turn) -> None:
    """Champion has all traffic, challenger is in a rollout, previous is where a rollback goes."""
    turn()
    assert seeded.registry.aliases("digits") == {"champion": 1, "challenger": 2}
    seeded.rollouts.act("digits", "promote_full", "ada")
    for _ in range(3):
        turn()
    assert seeded.registry.aliases("digits") == {"champion": 2, "previous": 1}
    rollout = seeded.rollouts.rollback("digits", "ada", "worse after all")
    assert rollout.candidate == 1
    for _ in range(3):
        turn()
    assert seeded.registry.aliases("digits") == {"champion": 1, "previous": 2}
    now = seeded.clock.now_us()
    promotion = serving_at(seeded.rollout_store.promotions("digits"), now)
    assert promotion is not None and promotion.to_version == 1
    assert seeded.aliases.history("digits") == []


def test_the_registry_is_asked_only_when_it_is_time_or_an_alias_moves(seeded: Platform) -> None:
    """Turn after turn costs it nothing; a new challenger is written at once."""
    now = [100.0]
    watch = RegistryWatch(seeded, now_s=lambda: now[0])
    watch.turn(1)
    client_of(seeded).set_registered_model_alias("digits", "champion", "2")
    watch.turn(1)
    assert seeded.aliases.standing() == []  # it was not looked at
    now[0] += EVERY_S
    watch.turn(_token(seeded))
    assert [drift.found for drift in seeded.aliases.standing()] == [2]
    seeded.rollouts.act("digits", "abort", "ada")
    for _ in range(2):
        _reconcile(seeded)
    watch.turn(_token(seeded))
    assert "challenger" not in seeded.registry.aliases("digits")


def test_an_alias_deleted_outside_is_found_and_the_history_is_intact(
    seeded: Platform, turn: Turn
) -> None:
    """mlflow#2169: who keeps history in an alias loses it with the alias. Ours is all there."""
    turn()
    before = seeded.rollout_store.promotions("digits")
    client_of(seeded).delete_registered_model_alias("digits", "champion")
    turn()
    (drift,) = seeded.aliases.standing("digits")
    assert (drift.alias, drift.verb, drift.expected, drift.found) == ("champion", "found", 1, None)
    assert drift.summary == (
        "the registry's alias champion points nowhere, our history says version 1"
    )
    assert seeded.rollout_store.promotions("digits") == before
    assert stable_version(before) == 1
    assert seeded.audits.verify().broken == ()
    assert "champion" not in seeded.registry.aliases("digits")  # nothing is mended behind a back


def test_a_moved_champion_moves_no_traffic_and_pauses_the_rollout(
    seeded: Platform, turn: Turn
) -> None:
    """Traffic goes by number. The rollout says why it waits; who resumes it knows and is heard."""
    turn()
    client_of(seeded).set_registered_model_alias("digits", "champion", "2")
    machine = turn()
    paused = open_rollout(seeded)
    assert (paused.condition, paused.cause, paused.weight_bp) == ("paused", "drift", 500)
    assert paused.reason == (
        "paused: the registry's alias champion points at version 2, our history says version 1"
    )
    assert machine.routes["digits"].stable == 1
    events = seeded.rollout_store.events(paused.rollout_id)
    assert (events[-1]["actor"], events[-1]["verb"]) == ("controller", "drift")
    turn()
    assert len(seeded.aliases.history("digits")) == 1  # one edit, one row
    seeded.rollouts.act("digits", "resume", "ada", "known")
    turn()
    assert open_rollout(seeded).condition == "progressing"
    assert [drift.verb for drift in seeded.aliases.standing()] == ["found"]


def test_restoring_sets_the_alias_back(seeded: Platform, turn: Turn) -> None:
    """Our history is right: the alias is as it says, on record, and nothing else moved."""
    turn()
    client_of(seeded).set_registered_model_alias("digits", "champion", "2")
    client_of(seeded).set_registered_model_alias("digits", "previous", "2")
    turn()
    restored = seeded.drifts.restore("digits", "ada", "a slip")
    assert [drift.alias for drift in restored] == ["champion", "previous"]
    assert seeded.registry.aliases("digits") == {"champion": 1, "challenger": 2}
    turn()
    assert seeded.aliases.standing() == []
    last = seeded.aliases.history("digits")[-1]
    assert (last.verb, last.actor, last.reason) == ("restored", "ada", "a slip")
    with pytest.raises(NotFound, match="No drift of digits's aliases"):
        seeded.drifts.restore("digits", "ada", "again")


def test_restoring_tells_of_the_rollout_that_waits(
    seeded: Platform, turn: Turn, typed: Callable[..., Callable[..., tuple[int, str, str]]]
) -> None:
    """Of this model's, with the command that lets it go on; another model's is not meant."""
    seeded.rollouts.deploy("wide", 1, "ada", "not measured")
    for _ in range(3):
        turn()
    client_of(seeded).set_registered_model_alias("digits", "champion", "2")
    client_of(seeded).delete_registered_model_alias("wide", "champion")
    turn()
    ask = typed(seeded, "rollout", "restore")
    code, out, err = ask("wide", "--reason", "a slip")
    assert (code, out) == (OK, "wide: champion is version 1 again.\n") and "resume" not in err
    code, _, err = ask("digits", "--reason", "a slip")
    assert code == OK and "steelyard rollout resume digits" in err


def test_adopting_begins_an_ordinary_rollout(seeded: Platform, turn: Turn) -> None:
    """The registry is right: its version gets a rollout by a plan, never all traffic at once."""
    seeded.rollouts.act("digits", "abort", "ada")
    _reconcile(seeded)
    _reconcile(seeded)
    turn()
    client_of(seeded).set_registered_model_alias("digits", "champion", "2")
    turn()
    rollout = seeded.drifts.adopt("digits", PRESETS["standard"], "ada", "the board said so")
    assert (rollout.kind, rollout.candidate) == ("canary", 2)
    assert rollout.plan.steps == PRESETS["standard"].steps
    assert seeded.rollouts.stable("digits") == 1
    turn()
    turn()
    adopted = open_rollout(seeded)
    assert adopted.condition == "progressing" and adopted.weight_bp < 10_000
    assert [d.verb for d in seeded.aliases.history("digits")] == ["found", "adopted"]
    with pytest.raises(Conflict, match="open already"):
        seeded.drifts.adopt("digits", PRESETS["standard"], "ada", "twice")
    seeded.rollouts.act("digits", "promote_full", "ada")
    for _ in range(3):
        turn()
    assert [d.verb for d in seeded.aliases.history("digits")] == ["found", "adopted", "settled"]
    assert seeded.registry.aliases("digits") == {"champion": 2, "previous": 1}


def test_an_alias_that_points_nowhere_cannot_be_adopted(seeded: Platform, turn: Turn) -> None:
    """There is no version to roll out; the message says what to do instead."""
    turn()
    client_of(seeded).delete_registered_model_alias("digits", "champion")
    turn()
    with pytest.raises(Conflict, match="no version to adopt") as refused:
        seeded.drifts.adopt("digits", PRESETS["fast"], "ada", "")
    assert refused.value.hint == "Set the alias back: steelyard rollout restore digits."


def test_a_version_deleted_in_the_registry_still_starts_again(seeded: Platform, turn: Turn) -> None:
    """What was served is kept: a new controller starts it from its cached file and routes to it.

    The deletion is found, told and not undone; the next champion is written over it.
    """
    turn()
    client_of(seeded).delete_model_version("digits", "1")
    assert len(list(seeded.settings.cache_dir.glob("*/model.onnx"))) == 2
    machine = Machine()
    assert Controller(seeded, machine, machine, holder="test").turn()
    assert machine.running["digits", 1].version.name == "digits/1"
    assert machine.routes["digits"].stable == 1
    (drift,) = seeded.aliases.standing("digits")
    assert drift.reason == "version 1 was deleted in the registry, its aliases with it"
    with pytest.raises(Refused, match="digits/1 is not in the registry any more"):
        seeded.drifts.restore("digits", "ada", "")
    turn()
    assert len(seeded.aliases.history("digits")) == 1
    seeded.rollouts.act("digits", "promote_full", "ada")
    for _ in range(3):
        turn()
    assert seeded.registry.aliases("digits") == {"champion": 2}
    seeded.rollouts.rollback("digits", "ada", "back to the deleted one")
    for _ in range(3):
        turn()
    assert seeded.rollouts.stable("digits") == 1
    promotion = seeded.rollout_store.promotions("digits")[-1]
    assert promotion.sha256 == machine.running["digits", 1].version.sha256


def test_a_candidate_deleted_while_it_takes_all_traffic_is_still_promoted(
    seeded: Platform, turn: Turn
) -> None:
    """The promotion is recorded with the digest that served, and no other model is held up."""
    turn()
    served = seeded.served_versions.version("digits", 2)
    client_of(seeded).delete_model_version("digits", "2")
    seeded.rollouts.act("digits", "promote_full", "ada")
    for _ in range(3):
        turn()
    last = seeded.rollout_store.promotions("digits")[-1]
    assert (last.to_version, last.sha256) == (2, served.sha256)


def test_a_kept_version_is_whole(seeded: Platform) -> None:
    """What is kept of a version is all that a replica goes by, evidence and envelope included."""
    registered = seeded.registry.version("digits", 2)
    served = seeded.served_versions.served("digits", 2)
    client_of(seeded).delete_model_version("digits", "2")
    assert seeded.served_versions.version("digits", 2) == replace(registered, aliases=())
    assert served.version == registered
    assert registered.evidence is not None


def test_what_was_being_written_when_the_controller_died_is_no_drift(
    seeded: Platform, turn: Turn
) -> None:
    """Killed before each of its commits in turn, while our history moves on; then one more look.

    The points are not listed: each round kills at the next commit, until a round has none left.
    """
    turn()
    survived = False
    killer = Killer(0)
    while not survived:
        seeded.rollouts.act("digits", "abort", "ada")
        for _ in range(2):
            _reconcile(seeded)
        RegistryWatch(seeded).turn(_token(seeded))
        seeded.rollouts.start("digits", 2, PRESETS["fast"], "ada")
        token, killer = _token(seeded), Killer(killer.at + 1)
        with killer.lurking(seeded.engine), suppress(KilledError):
            RegistryWatch(seeded).turn(token)
            survived = True
    assert killer.at > 2
    RegistryWatch(seeded).turn(_token(seeded))
    assert seeded.registry.aliases("digits") == {"champion": 1, "challenger": 2}
    assert seeded.aliases.history("digits") == []


def test_drift_is_shown_wherever_one_looks(
    seeded: Platform,
    turn: Turn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the model's page, and by the commands that show models, rollouts and what serves."""
    turn()
    client_of(seeded).set_registered_model_alias("digits", "champion", "2")
    turn()
    said = "the registry's alias champion points at version 2, our history says version 1"
    with TestClient(create_app(seeded), base_url="http://localhost") as client:
        for path in ("/models/digits", "/models/digits/rollout"):
            assert said.replace("'", "&#39;") in client.get(path).text
    monkeypatch.setenv("STEELYARD_HOME", str(seeded.settings.home))
    for words in (["models", "show"], ["rollout", "status"], ["serve", "status"]):
        assert steelyard([*words, "digits"]) == OK
        shown = capsys.readouterr()
        assert f"drift: digits: {said}" in shown.out
        assert "steelyard rollout restore digits" in shown.err
        assert steelyard([*words, "digits", "--json"]) == OK
        (drift,) = json.loads(capsys.readouterr().out)["drifts"]
        assert (drift["expected"], drift["found"]) == (1, 2)


def _token(platform: Platform) -> int:
    now = platform.clock.now_us()
    token = platform.rollout_store.leases.acquire("controller", "test", now, 60 * SECOND)
    assert token is not None
    return token


def _reconcile(platform: Platform) -> None:
    """One turn for the model, with an edge that confirms at once."""
    token = _token(platform)
    ready = {("digits", n): ApplicationState("ready") for n in (1, 2)}
    for found in platform.rollouts.turns.all(ready, 0, token):
        if found.after.generation:
            platform.rollouts.confirm("digits", found.after.generation, token)
