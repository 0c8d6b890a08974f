"""``steelyard serve status | logs | scale | drain | shadow``, as people type them."""

import os
from collections.abc import Callable
from typing import Any, cast

import pytest

from steelyard.bootstrap import Platform
from steelyard.bootstrap.counting import counter_file
from steelyard.bootstrap.replica_logs import follow_logs
from steelyard.cli.app import FAILED, USAGE
from steelyard.domain.analysis import Metric
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.metering import Activity, UsageWindow
from steelyard.domain.rollout import SECOND_US
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.serving_counters import Served
from steelyard.domain.serving_snapshot import Shadow
from steelyard.ports.applications import ApplicationState

Ask = Callable[..., tuple[int, str, str]]
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command of ``serve`` as an operator: exit code, standard output, standard error."""
    return typed(seeded, "serve")


@pytest.fixture
def abort(seeded: Platform) -> Callable[[], None]:
    """Ends the open rollout of digits/2 as a person and then the controller do."""

    def abort() -> None:
        seeded.rollouts.act("digits", "abort", "ada", "enough")
        now = seeded.clock.now_us()
        token = seeded.rollout_store.leases.acquire("controller", "test", now, 60 * SECOND_US)
        assert token is not None
        states = {("digits", n): ApplicationState("ready") for n in (1, 2)}
        while turns := seeded.rollouts.turns.all(states, 0, token):
            (turn,) = turns
            seeded.rollouts.confirm("digits", turn.after.generation, token)
            if not turn.after.is_open:
                break

    return abort


def test_status_says_what_every_version_does(told: Told, seeded: Platform) -> None:
    """Role, share, replicas of this machine with their memory, and what it was asked lately."""
    counting = counter_file(seeded.settings, "a", Served("digits", 1, "full"))
    stable, candidate = told("status")["versions"]
    assert counting.counts[0] == 0  # the replica is this very process
    assert (stable["version"], stable["role"], stable["arm"]) == (1, "stable", "stable")
    assert (stable["phase"], stable["weight_bp"], stable["pids"]) == ("ready", 9500, [os.getpid()])
    assert stable["memory_bytes"] > 1_000_000
    assert stable["ready_since_us"] > 0
    assert (candidate["role"], candidate["arm"]) == ("candidate", "canary")
    assert (candidate["pids"], candidate["memory_bytes"]) == ([], None)
    assert (stable["replicas_min"], stable["replicas_max"]) == (1, 1)


def test_status_counts_the_last_five_minutes(told: Told, seeded: Platform) -> None:
    """Requests and server errors of metered windows; history and a shadow's copies are neither."""
    now = seeded.clock.now_us()
    for n, (age_s, activity) in enumerate([(10, "serve"), (20, "serve"), (20, "shadow"),
                                           (400, "serve")]):  # fmt: skip
        start = now - age_s * SECOND_US
        window = UsageWindow(
            "replica", "new", n + 1, "serve/digits/1/0", start, start + SECOND_US, "digits", 1,
            "inference", cast(Activity, activity), requests=5, errors=2,
        )  # fmt: skip
        seeded.facts.ingest([window], now)
    stable, candidate = told("status", "digits")["versions"]
    assert (stable["requests"], stable["errors"]) == (10, 4)
    assert (candidate["requests"], candidate["errors"]) == (0, 0)


def test_a_version_that_fails_to_load_gets_nothing_and_says_why(
    told: Told, ask: Ask, seeded: Platform, abort: Callable[[], None]
) -> None:
    """Its share is what was decided for it; its reason is on the page."""
    why = "Refused: The artefact of digits/2 has SHA-256 0, registered was 1."
    seeded.rollout_store.applications.publish("digits", 2, "failed", why, seeded.clock.now_us())
    failed = told("status")["versions"][1]
    assert (failed["phase"], failed["reason"], failed["ready_since_us"]) == ("failed", why, None)
    assert why in ask("status")[1]
    abort()
    failed = told("status")["versions"][1]
    assert (failed["role"], failed["arm"], failed["weight_bp"]) == ("warm", None, None)


def test_status_of_nothing(ask: Ask) -> None:
    """A model that was never deployed is a mistake."""
    code, _, err = ask("status", "wide")
    assert code == FAILED and "wide was never deployed" in err


def test_scale_changes_the_policy_and_nothing_else(told: Told, ask: Ask, seeded: Platform) -> None:
    """The controller goes by it; nonsense is refused before it is stored."""
    assert told("scale", "digits", "--min", "2", "--max", "4")["replicas_max"] == 4
    policy = seeded.policies.policy("digits")
    assert (policy.replicas_min, policy.replicas_max) == (2, 4)
    assert {(v["replicas_min"], v["replicas_max"]) for v in told("status")["versions"]} == {(2, 4)}
    code, _, err = ask("scale", "digits", "--min", "3", "--max", "2")
    assert code == USAGE and "below replicas_min" in err
    assert seeded.policies.policy("digits") == policy


def test_only_what_is_kept_warm_can_be_drained(
    told: Told, ask: Ask, seeded: Platform, abort: Callable[[], None]
) -> None:
    """Not stable, not an open rollout's; what is drained is not desired any more, and stays so."""
    for version, why in ((1, "stable version"), (2, "open rollout gives it traffic")):
        code, _, err = ask("drain", f"digits/{version}")
        assert code == FAILED and why in err
    assert ask("drain", "digits/9")[0] == FAILED
    abort()
    assert seeded.operations.desired("digits").versions == {1: "stable", 2: "warm"}
    told("drain", "digits/2", "--reason", "room for others")
    assert seeded.operations.desired("digits").versions == {1: "stable"}
    code, _, err = ask("drain", "digits/2")
    assert code == FAILED and "not in service" in err
    assert [v["role"] for v in told("status")["versions"]] == ["stable", "stopping"]


def test_a_shadow_runs_and_is_told_to_replicas_once_it_is_ready(
    told: Told, ask: Ask, seeded: Platform, abort: Callable[[], None]
) -> None:
    """It is desired at once, copied to when ready, and cannot be drained meanwhile."""
    abort()
    told("drain", "digits/2")
    setting = told("shadow", "digits", "--version", "2", "--share", "12.5%")
    assert setting["share_bp"] == 1250
    assert seeded.operations.desired("digits").versions == {1: "stable", 2: "shadow"}
    assert seeded.operations.rules({("digits", 1)}) == {}
    assert seeded.operations.rules({("digits", 2)}) == {"digits": (Shadow(2, 1250),)}
    code, _, err = ask("drain", "digits/2")
    assert code == FAILED and "shadow" in err
    told("shadow", "digits", "--off")
    assert seeded.operations.desired("digits").versions == {1: "stable"}
    assert seeded.operations.rules({("digits", 2)}) == {}
    code, _, err = ask("shadow", "digits", "--off")
    assert code == FAILED and "has no shadow" in err


def test_what_cannot_be_a_shadow_is_refused(ask: Ask, seeded: Platform) -> None:
    """Stable itself, a version that does not exist, a model that is not deployed, odd shares."""
    for words, code, why in [
        (("digits", "--version", "1"), FAILED, "cannot shadow itself"),
        (("digits", "--version", "9"), FAILED, "9"),
        (("wide", "--version", "1"), FAILED, "not deployed"),
        (("digits",), USAGE, "--version"),
        (("digits", "--version", "2", "--off"), USAGE, "--version"),
        (("digits", "--version", "2", "--share", "0"), USAGE, "share"),
        (("digits", "--version", "2", "--share", "101%"), USAGE, "share"),
        (("digits", "--version", "2", "--share", "0.001"), USAGE, "share"),
        (("digits", "--version", "2", "--share", "nan"), USAGE, "share"),
        (("digits", "--version", "2", "--share", "some"), USAGE, "share"),
    ]:
        found, _, err = ask("shadow", *words)
        assert (found, why in err) == (code, True), (words, err)
    assert seeded.operations.shadows() == {}


def test_a_version_that_does_not_pass_its_gates_is_no_shadow(ask: Ask, seeded: Platform) -> None:
    """Copies of clients' requests go only where clients' requests might."""
    seeded.gates.set_policy("digits", {"min_accuracy": 0.999}, "ada", "stricter")
    code, _, err = ask("shadow", "digits", "--version", "2")
    assert code == FAILED and "gate" in err


def test_status_says_how_often_a_shadow_disagrees(told: Told, ask: Ask, seeded: Platform) -> None:
    """Pairs by the prediction that was repeated; what has no classes cannot be compared."""
    told("shadow", "digits", "--version", "2", "--share", "50")
    now = seeded.clock.now_us()
    for n, (live, copy) in enumerate([((1,), (1,)), ((1,), (2,)), ((1, 2), (1, 3)), ((1,), None)]):
        _predict(seeded, f"live-{n}", 1, "stable", now, classes=live)
        _predict(seeded, f"copy-{n}", 2, "shadow", now, classes=copy, shadows=f"live-{n}")
    _predict(seeded, "copy-9", 2, "shadow", now, classes=(1,), shadows="not-here-yet")
    (one,) = [v["shadow"] for v in told("status")["versions"] if v["shadow"]]
    assert one == {"share_bp": 5_000, "compared": 3, "different": 2, "by": "operator"}
    assert "50 %: 2 of 3 differ" in " ".join(ask("status")[1].split())


def test_a_rollout_s_shadow_is_shown_apart_and_gives_way(
    told: Told, ask: Ask, seeded: Platform, abort: Callable[[], None]
) -> None:
    """Replicas are told of the step's share; an operator's word comes first while it lasts."""
    abort()
    steps = (Step(0, 600.0, shadow_bp=2_000), Step(10_000))
    metrics = (*default_metrics(), Metric("disagreement", limit=0.2))
    seeded.rollouts.start("digits", 2, Plan(steps, metrics), "ada")
    ready = {("digits", n): ApplicationState("ready") for n in (1, 2)}
    token = seeded.rollout_store.leases.acquire("controller", "test", seeded.clock.now_us(), 10**8)
    assert token is not None
    assert seeded.rollouts.turns.all(ready, 0, token) is not None
    assert seeded.operations.rules(ready) == {"digits": (Shadow(2, 2_000),)}
    assert seeded.operations.rules({("digits", 1)}) == {}
    stable, candidate = told("status")["versions"]
    assert stable["shadow"] is None and candidate["weight_bp"] in (0, None)
    assert (candidate["shadow"]["by"], candidate["shadow"]["share_bp"]) == ("rollout", 2_000)
    assert "20 %, by its rollout: 0 of 0 differ" in " ".join(ask("status")[1].split())
    told("shadow", "digits", "--version", "2", "--share", "30%")
    assert seeded.operations.rules(ready) == {"digits": (Shadow(2, 3_000),)}
    assert told("status")["versions"][1]["shadow"]["by"] == "operator"
    told("shadow", "digits", "--off")
    assert seeded.operations.rules(ready) == {"digits": (Shadow(2, 2_000),)}


def test_logs_are_the_replicas_and_the_processes_own(ask: Ask, seeded: Platform) -> None:
    """Ray Serve's words about each replica, what its process wrote, or a process's log."""
    settings = seeded.settings
    serve = settings.ray_temp_dir / "session_1" / "logs" / "serve"
    serve.mkdir(parents=True)
    (settings.ray_temp_dir / "session_latest").symlink_to("session_1")
    for name, text in [("digits-v1_onnx-1_a", "one\ntwo\n"), ("digits-v12_onnx-1_a", "twelve\n"),
                       ("digitsx-v1_onnx-1_a", "other\n")]:  # fmt: skip
        (serve / f"replica_{name}.log").write_text(text)
    _counting = counter_file(settings, "a", Served("digits", 1, "full"))
    (serve.parent / f"worker-x-01-{os.getpid()}.err").write_text("Traceback\n")
    _, out, _ = ask("logs", "digits/1", "--lines", "1")
    assert sorted(line.split(": ")[1] for line in out.splitlines()) == ["Traceback", "two"]
    assert "twelve" in ask("logs", "digits")[1] and "other" not in ask("logs", "digits")[1]
    settings.log_dir.mkdir(exist_ok=True)
    (settings.log_dir / "controller.log").write_text("a\nb\n")
    assert ask("logs", "--process", "controller")[1] == "a\nb\n"
    assert ask("logs", "--process", "controller", "--lines", "0")[1] == ""
    assert ask("logs", "--process", "../x")[0] == FAILED
    assert ask("logs", "wide")[0] == FAILED
    assert ask("logs")[0] == USAGE
    assert ask("logs", "digits", "--process", "controller")[0] == USAGE


def test_followed_logs_go_on(seeded: Platform) -> None:
    """The last lines first, then those that are written, each once and only when it is whole."""
    first, second = (seeded.settings.home / name for name in ("a.log", "b.log"))
    first.write_text("one\ntwo\nthr")
    second.write_text("")
    lines = follow_logs([first, second], 1)
    assert next(lines) == (first, "two")
    with second.open("ab") as file:
        file.write(b"other \xff\n")
    with first.open("a") as text:
        text.write("ee\n")
    assert {next(lines), next(lines)} == {(first, "three"), (second, "other \ufffd")}
    lines.close()


def _predict(
    platform: Platform, prediction_id: str, version: int, arm: Any, at_us: int, status: int = 200,
    classes: tuple[int, ...] | None = (1,), shadows: str | None = None,
) -> None:  # fmt: skip
    record = PredictionRecord(
        prediction_id, "digits", version, "d" * 64, "r", arm, "-", 0, 1, at_us, 1_000, 1, status,
        classes=classes, shadows=shadows,
    )  # fmt: skip
    platform.facts.ingest([record], at_us)
