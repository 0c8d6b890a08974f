"""The ledger's head in a real MLflow: what a chain alone cannot notice, the registry remembers."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tests.free_ports import free_ports
from tests.nothing_served import NoEdge, NothingRuns

from steelyard.bootstrap import Platform
from steelyard.bootstrap.processes import mlflow_process
from steelyard.cli.app import FAILED, OK
from steelyard.cli.app import run as steelyard
from steelyard.domain.facts import Fact
from steelyard.domain.hash_chain import digest
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.settings import Settings
from steelyard_serving.controller import Controller

pytestmark = pytest.mark.integration

HOUR = 3_600_000_000
DAY_US = 24 * HOUR
OCTOBER_4, NOVEMBER_5, NOVEMBER_6 = (n * DAY_US for n in (20_000, 20_032, 20_033))
"""Of 2024."""
NAME = "serve/shop/1/0"
Ask = Callable[..., tuple[int, str, str]]


class Clock:
    """A clock that stands where the test put it."""

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us

    def now_us(self) -> int:
        """The moment the test chose."""
        return self.at_us


def _hour(start: int) -> list[Fact]:
    """An hour of serving."""
    number = start // HOUR
    return [
        Resource(NAME, "replica", "generic-vcpu", 1, 1, "vcpu-hour", OCTOBER_4, "DEU"),
        SupplyWindow(NAME, "boot", 2 * number, NAME, start, start + HOUR, HOUR, cpu_us=HOUR // 2),
        UsageWindow(NAME, "boot", 2 * number + 1, NAME, start, start + HOUR, "shop", 1,
                    "inference", "serve", requests=5, busy_ns=1_800 * 10**9),
    ]  # fmt: skip


def _open(home: Path, **settings: Any) -> Platform:
    platform = Platform(Settings(home=home, **settings))
    platform.__dict__["clock"] = Clock(OCTOBER_4 + 2 * HOUR)
    return platform


def _post(platform: Platform, start: int) -> None:
    """An hour is metered and, an hour later, posted."""
    platform.__dict__["clock"].at_us = start + 2 * HOUR
    platform.facts.ingest(_hour(start), start + HOUR)
    assert platform.books.post() > 0


@pytest.fixture
def registry_file(seeded_home: Path, tmp_path: Path) -> Path:
    """A migrated MLflow database, because making one takes longer than any test here."""
    home = tmp_path / "home"
    home.mkdir()
    return Path(shutil.copy(seeded_home / "mlflow.db", home / "mlflow.db"))


@pytest.fixture
def platform(registry_file: Path) -> Iterator[Platform]:
    """October closed by Ada on 5 November, and what was posted on the day after; published."""
    platform = _open(registry_file.parent)
    _post(platform, OCTOBER_4)
    _post(platform, NOVEMBER_5)
    platform.books.close("2024-10", "ada")
    _post(platform, NOVEMBER_6)
    assert len(platform.witnessing.publish().new) == 4
    yield platform
    platform.engine.dispose()


@pytest.fixture
def ask(platform: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types ``steelyard ledger`` and more: exit code, standard output, standard error."""
    return typed(platform, "ledger")


def _client(platform: Platform) -> MlflowClient:
    return MlflowClient(tracking_uri=platform.settings.registry_uri)


def _tags(client: MlflowClient, name: str = "steelyard-ledger") -> dict[str, str]:
    experiment = client.get_experiment_by_name(name)
    return {} if experiment is None else dict(experiment.tags)


def _as_owner(platform: Platform, *statements: str) -> None:
    """What the owner of the file can do: drop the triggers, change what they like."""
    connection = sqlite3.connect(platform.settings.home / "ledger.db")
    triggers = connection.execute("select name from sqlite_master where type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f"drop trigger {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_each_day_and_each_closed_month_is_a_tag(platform: Platform) -> None:
    """Under names that a person finds in MLflow's pages, with texts that can be checked by hand."""
    tags = _tags(_client(platform))
    hashes = {entry["seq"]: entry["hash"] for entry in platform.ledger.entries()}
    days = {key.removeprefix("steelyard.head."): text for key, text in tags.items()
            if key.startswith("steelyard.head.")}  # fmt: skip
    assert set(days) == {"2024-10-04", "2024-11-05", "2024-11-06"}
    for text in days.values():
        seq, hashed = text.split(" ")
        assert hashes[int(seq)] == hashed
    (period,) = [p for p in platform.periods.all() if p.status == "closed"]
    assert tags["steelyard.closed.2024-10"] == digest(
        {"v": 1, "period_id": "2024-10", "start_us": period.start_us, "end_us": period.end_us,
         "status": "closed", "closed_us": period.closed_us, "closed_by": "ada",
         "closing_seq": period.closing_seq,
         "totals": json.dumps(period.totals, sort_keys=True)}
    )  # fmt: skip


def test_publishing_again_changes_nothing(platform: Platform) -> None:
    """By this process or by another one."""
    before = _tags(_client(platform))
    for witnessing in (platform.witnessing, Platform(platform.settings).witnessing):
        done = witnessing.publish()
        assert (dict(done.new), done.alarms, done.missed) == ({}, (), "")
    assert _tags(_client(platform)) == before


def test_verify_compares_what_was_published(platform: Platform, ask: Ask) -> None:
    """Exit code 0, and how much was compared; nothing is asked with --offline."""
    code, out, err = ask("verify")
    assert code == OK, err
    assert "compared with 4 published heads and closed months" in out
    code, out, _ = ask("verify", "--json")
    assert (code, json.loads(out)["published_compared"]) == (OK, 4)
    code, out, err = ask("verify", "--offline", "--json")
    assert (code, json.loads(out)["published_compared"], err) == (OK, None, "")


def test_a_tail_that_was_cut_off_with_every_trace_is_named(platform: Platform, ask: Ask) -> None:
    """The chain that is left holds by itself; the registry knows what followed (A16)."""
    seq, _ = _tags(_client(platform))["steelyard.head.2024-11-06"].split(" ")
    _as_owner(
        platform,
        "delete from entry where seq > (select seq from chain_head where day = '2024-11-05')",
        "delete from chain_head where day = '2024-11-06'",
    )
    platform.ledger.rebuild()
    assert ask("verify", "--offline")[0] == OK
    code, out, err = ask("verify", "--json")
    assert (code, json.loads(out)["ok"]) == (FAILED, False)
    assert f"entry {seq} is gone: it was published as the head of 2024-11-06" in err


def test_a_statement_that_was_taken_away_is_counted(platform: Platform, ask: Ask) -> None:
    """A tag that is gone cannot contradict, and is not passed over in silence."""
    client = _client(platform)
    experiment = client.get_experiment_by_name("steelyard-ledger")
    assert experiment is not None
    client.delete_experiment_tag(experiment.experiment_id, "steelyard.head.2024-11-06")
    code, out, _ = ask("verify")
    assert code == OK
    assert "compared with 3 published heads and closed months; 1 are not published" in out


def test_who_closed_a_month_cannot_be_rewritten_unnoticed(platform: Platform, ask: Ask) -> None:
    """No entry's hash covers it, and the published digest does."""
    _as_owner(platform, "update period set closed_by = 'eve' where period_id = '2024-10'")
    assert ask("verify", "--offline")[0] == OK
    code, _, err = ask("verify")
    assert code == FAILED
    assert "the closed period 2024-10 has the digest" in err
    assert _tags(_client(platform))["steelyard.closed.2024-10"] in err


def test_a_tag_that_says_something_else_is_an_alarm_and_stays(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is right, nothing is overwritten; the log names both, once."""
    client = _client(platform)
    experiment = client.get_experiment_by_name("steelyard-ledger")
    assert experiment is not None
    tag, other = "steelyard.head.2024-11-06", f"3 {'e' * 64}"
    client.set_experiment_tag(experiment.experiment_id, tag, other)
    again = Platform(platform.settings)
    for _ in range(2):
        again.witnessing.publish().tell(logging.getLogger("test"))
    again.engine.dispose()
    assert _tags(client)[tag] == other
    (alarm,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    third = next(e["hash"] for e in platform.ledger.entries() if e["seq"] == 3)
    assert "e" * 64 in alarm.getMessage() and third in alarm.getMessage()


def test_a_deleted_experiment_still_testifies_and_takes_nothing_more(platform: Platform) -> None:
    """MLflow keeps it in its bin: what it says still counts, and why nothing is added is told."""
    client = _client(platform)
    experiment = client.get_experiment_by_name("steelyard-ledger")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    assert platform.witnessing.compare().compared == 4
    _post(platform, NOVEMBER_6 + DAY_US)
    assert "deleted in MLflow" in platform.witnessing.publish().missed
    client.restore_experiment(experiment.experiment_id)
    assert list(platform.witnessing.publish().new) == ["head.2024-11-07"]


def test_two_ledgers_in_one_registry_keep_experiments_of_their_own(
    platform: Platform, tmp_path: Path
) -> None:
    """A second platform on the same MLflow names another one, and neither alarms the other."""
    other = _open(tmp_path / "other", mlflow_uri=platform.settings.registry_uri,
                  witness_experiment="staging-ledger")  # fmt: skip
    _post(other, NOVEMBER_6)
    assert list(other.witnessing.publish().new) == ["head.2024-11-06"]
    other.engine.dispose()
    assert set(_tags(_client(platform), "staging-ledger")) == {"steelyard.head.2024-11-06"}
    assert platform.witnessing.compare().broken == ()


def test_closing_a_month_publishes_it(
    registry_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that closes it tells the registry at once."""
    platform = _open(registry_file.parent)
    _post(platform, OCTOBER_4)
    platform.engine.dispose()
    monkeypatch.setenv("STEELYARD_HOME", str(registry_file.parent))
    assert steelyard(["ledger", "close", "2024-10"]) == OK
    tags = _tags(_client(platform))
    assert "steelyard.closed.2024-10" in tags and "steelyard.head.2024-10-04" in tags
    assert "published" not in capsys.readouterr().err


def _serve(home: Path, port: int) -> subprocess.Popen[bytes]:
    """An MLflow server over the home's registry; returns when it answers."""
    spec = mlflow_process(Settings(home=home, mlflow_port=port))
    process = subprocess.Popen(
        spec.command, env={**os.environ, **spec.environment},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert spec.probe is not None and spec.probe.url is not None
    end = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(spec.probe.url, timeout=5).close()
            return process
        except OSError:  # refused, or reset while it starts
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)


@pytest.fixture
def away(registry_file: Path, tmp_path: Path) -> Iterator[tuple[Platform, int]]:
    """A platform whose registry is a server that does not run, and the port it would run on."""
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    platform = _open(tmp_path / "own", mlflow_uri=uri, posting_interval_s=1e-6)
    yield platform, port
    platform.engine.dispose()


def test_posting_does_not_wait_for_a_registry_that_is_away(
    away: tuple[Platform, int], registry_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two days are posted without it and told once; when it is back, both are published."""
    platform, port = away
    caplog.set_level(logging.INFO, "steelyard.controller")
    controller = Controller(platform, NothingRuns(), NoEdge())
    for day in (NOVEMBER_5, NOVEMBER_6):
        platform.__dict__["clock"].at_us = day + 2 * HOUR
        platform.facts.ingest(_hour(day), day + HOUR)
        before = _seq(platform)
        assert controller.turn()
        controller.keep_books()
        assert _seq(platform) > before
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"nobody answers at http://127.0.0.1:{port}" in warning
    server = _serve(registry_file.parent, port)
    try:
        controller.keep_books()
        tags = _tags(_client(platform))
    finally:
        server.terminate()
        server.wait(30)
    assert set(tags) == {"steelyard.head.2024-11-05", "steelyard.head.2024-11-06"}
    assert tags["steelyard.head.2024-11-06"] in caplog.text


def _seq(platform: Platform) -> int:
    head = platform.ledger.head()
    return head.seq if head else 0


def test_verify_says_that_it_could_not_compare(
    away: tuple[Platform, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest of the verdict stands; what is broken by itself still fails."""
    platform, port = away
    _post(platform, NOVEMBER_5)
    monkeypatch.setenv("STEELYARD_HOME", str(platform.settings.home))
    monkeypatch.setenv("STEELYARD_MLFLOW_URI", platform.settings.mlflow_uri)
    assert steelyard(["ledger", "verify", "--json"]) == OK
    shown = capsys.readouterr()
    assert json.loads(shown.out)["published_compared"] is None
    said = " ".join(shown.err.split())
    assert "not compared with what was published: The registry does not answer" in said
    assert f"http://127.0.0.1:{port}" in said
    _as_owner(platform, "update entry set amount = amount + 1 where seq = 2")
    assert steelyard(["ledger", "verify"]) == FAILED
    assert "entry 2" in capsys.readouterr().err


def test_posting_by_hand_goes_on_without_the_registry(
    away: tuple[Platform, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also what runs on a machine without a controller."""
    platform, _ = away
    platform.facts.ingest(_hour(NOVEMBER_5), NOVEMBER_5 + HOUR)
    monkeypatch.setenv("STEELYARD_HOME", str(platform.settings.home))
    monkeypatch.setenv("STEELYARD_MLFLOW_URI", platform.settings.mlflow_uri)
    assert steelyard(["ledger", "post"]) == OK
    assert _seq(platform) > 0
    assert "nobody answers" in caplog.text
