"""``steelyard audit``, as people type it: what is shown of predictions, and when it fails."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from steelyard.bootstrap import Platform
from steelyard.cli.app import FAILED, OK
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_digest import KEY_FILE, KeyedDigest

Ask = Callable[..., tuple[int, str, str]]
DAY = 86_400_000_000
KEY = bytes(range(32))
RECORD = PredictionRecord(
    "asked", "digits", 2, "d" * 64, "replica/digits/2/boot", "canary", "r1", 1, 17, 0, 1_250_000,
    1, 200, classes=(3,), latency_us=2_500, key_id="0123456789", batch=7, flags="outside",
    inputs_sha256=KeyedDigest(KEY)(b"[1]"), digest_method=KeyedDigest(KEY).method,
    trace_id="a" * 32,
)  # fmt: skip


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command as an operator: exit code, standard output, standard error."""
    ask = typed(seeded)
    (seeded.settings.secret_dir / KEY_FILE).write_text(KEY.hex())
    now = seeded.clock.now_us()
    seeded.facts.ingest([replace(RECORD, received_us=now)], now)
    seeded.facts.ingest([replace(RECORD, prediction_id="old", received_us=now - 9 * DAY)], now)
    return ask


def _json(out: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_prediction_is_shown_with_all_that_was_recorded(ask: Ask) -> None:
    """Who asked, how long it took, what was odd, and where the record stands."""
    code, out, _ = ask("audit", "show", "asked")
    assert code == OK
    for words in ("digits/2 (canary)", "key 0123456789", "outside", "in inference 7", "a" * 32,
                  KeyedDigest(KEY).method, "place 1"):  # fmt: skip
        assert words in out, words


def test_what_was_asked_can_be_compared(ask: Ask, tmp_path: Path, seeded: Platform) -> None:
    """The very bytes are recognised, others are not, and without the key nobody can tell."""
    body = tmp_path / "body.json"
    body.write_bytes(b"[1]")
    code, _, err = ask("audit", "show", "asked", "--inputs", str(body))
    assert code == OK and "is what asked was asked" in err
    body.write_bytes(b"[ 1]")
    code, _, err = ask("audit", "show", "asked", "--inputs", str(body))
    assert code == FAILED and "is not what asked was asked" in err
    (seeded.settings.secret_dir / KEY_FILE).unlink()
    code, _, err = ask("audit", "show", "asked", "--inputs", str(body))
    assert code == FAILED and "no telling" in err


def test_an_early_record_is_compared_by_its_plain_digest(
    ask: Ask, tmp_path: Path, seeded: Platform
) -> None:
    """Records from before there was a key keep their SHA-256."""
    now = seeded.clock.now_us()
    plain = hashlib.sha256(b"[1]").hexdigest()
    seeded.facts.ingest(
        [replace(RECORD, prediction_id="early", inputs_sha256=plain, digest_method=None)], now
    )
    body = tmp_path / "body.json"
    body.write_bytes(b"[1]")
    assert ask("audit", "show", "early", "--inputs", str(body))[0] == OK


def test_verify_prints_the_head_and_finds_it_again(ask: Ask) -> None:
    """A head noted elsewhere has to be in the chain later on."""
    code, out, _ = ask("audit", "verify", "--json")
    found = _json(out)
    assert code == OK and found["ok"] and found["predictions"] == 202
    assert ask("audit", "verify", "asked", "--head", found["head"])[0] == OK
    code, _, err = ask("audit", "verify", "--head", found["head"][:-1] + "x")
    assert code == FAILED and "is not in the chain" in err


def test_verify_fails_and_names_what_was_changed(ask: Ask, seeded: Platform) -> None:
    """The exit code is for scripts, the name for whoever has to look."""
    with seeded.engine.begin() as connection:
        connection.execute(text("drop trigger prediction_no_update"))
        connection.execute(text("update prediction set version = 1 where prediction_id = 'asked'"))
    code, out, err = ask("audit", "verify", "asked")
    assert code == FAILED and "BROKEN" in out and "prediction asked at place 1" in err


def test_predictions_are_erased_as_the_policy_says(ask: Ask, seeded: Platform) -> None:
    """First only told, then done; the others stay, and the chain still holds."""
    assert "Nothing is past" in ask("audit", "erase", "--dry-run")[1]
    seeded.policies.change("digits", {"retention_days": 7}, "ada", "privacy notice")
    told = _json(ask("audit", "erase", "--dry-run", "--json")[1])
    assert not told["erased"]
    assert [(one["model"], one["predictions"]) for one in told["models"]] == [("digits", 1)]
    assert ask("audit", "show", "old")[0] == OK
    done = _json(ask("audit", "erase", "--json")[1])
    assert done["erased"] and done["models"] == told["models"]
    code, _, err = ask("audit", "show", "old", "--wait", "0")
    assert code == FAILED and "retention_days" in err
    assert ask("audit", "show", "asked")[0] == OK
    found = _json(ask("audit", "verify", "--json")[1])
    assert (found["ok"], found["erased"], found["predictions"]) == (True, 1, 201)


def test_only_an_operator_erases(ask: Ask, seeded: Platform) -> None:
    """Whoever cannot read the key of the API may look and not erase."""
    (seeded.settings.secret_dir / "api.token").unlink()
    assert ask("audit", "erase", "--dry-run")[0] == OK
    code, _, err = ask("audit", "erase")
    assert code == FAILED and "operator" in err
