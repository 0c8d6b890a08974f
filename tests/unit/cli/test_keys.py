"""``steelyard keys`` and ``steelyard serve policy``, as people type them."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from steelyard.bootstrap import Platform
from steelyard.cli.app import FAILED, OK, USAGE
from steelyard.domain.api_key import TEXT

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command as an operator: exit code, standard output, standard error."""
    return typed(seeded)


def test_a_key_is_printed_once_and_kept_nowhere(ask: Ask, seeded: Platform) -> None:
    """Standard output is the key and nothing else; no file of the platform holds the secret."""
    code, out, err = ask("keys", "create", "ada", "--model", "digits", "--told", "label")
    match = TEXT.fullmatch(out.strip())
    assert code == OK and match
    assert match["key_id"] in err and match["secret"] not in err
    code, listed, _ = ask("keys", "list")
    assert match["key_id"] in listed and "ada" in listed and match["secret"] not in listed
    files = [path.read_bytes() for path in seeded.settings.home.rglob("*") if path.is_file()]
    assert not [data for data in files if match["secret"].encode() in data]
    assert [data for data in files if sha256(match["secret"].encode()).hexdigest().encode() in data]


def test_a_key_is_made_as_it_was_asked_for(told: Callable[..., dict[str, Any]]) -> None:
    """Models, limits, expiry and what it is told; the digest of the secret is shown to nobody."""
    made = told(
        "keys", "create", "ada", "--model", "wide", "--model", "digits", "--expires-days", "2",
        "--requests-per-minute", "60", "--items-per-day", "1000", "--told", "top", "--top", "5",
    )  # fmt: skip
    text = made.pop("key")
    (listed,) = told("keys", "list")["keys"]
    assert {"schema_version": 1, **listed} == made
    assert text.startswith(f"sy_{listed['key_id']}_")
    assert listed["models"] == ["digits", "wide"]
    assert listed["expires_us"] - listed["created_us"] == 2 * 86_400_000_000
    assert (listed["requests_per_minute"], listed["items_per_day"]) == (60, 1000)
    assert (listed["told"], listed["top"], listed["revoked_us"]) == ("top", 5, None)
    assert not [name for name in listed if "sha256" in name]


def test_a_revoked_key_is_live_no_more(ask: Ask, told: Callable[..., dict[str, Any]],
                                       seeded: Platform) -> None:  # fmt: skip
    """It stays in the list with who took it back and why; a second time changes nothing."""
    key_id = told("keys", "create", "ada")["key_id"]
    other = told("keys", "create", "bob")["key_id"]
    gone = told("keys", "revoke", key_id, "--reason", "it leaked")
    assert gone["reason"] == "it leaked" and gone["revoked_by"].startswith("user:")
    assert told("keys", "revoke", key_id, "--reason", "again") == gone
    assert list(seeded.keys.live()) == [other]
    assert "revoked 20" in ask("keys", "list")[1]
    code, _, err = ask("keys", "revoke", "sy_absent", "--reason", "it leaked")
    assert code == FAILED and "no key with this id" in err and "sy_absent" not in err
    assert ask("keys", "revoke", other, "--reason", " ")[0] == USAGE


def test_an_expired_key_is_live_no_more(seeded: Platform, ask: Ask) -> None:
    """From the very microsecond on."""
    code, _, _ = ask("keys", "create", "ada [bold]", "--expires-days", "1")
    assert "ada [bold]" in ask("keys", "list")[1]
    (record,) = seeded.keys.records()
    assert code == OK and record.key.expires_us is not None

    class Then:
        def now_us(self) -> int:
            assert record.key.expires_us is not None
            return record.key.expires_us

    assert list(seeded.keys.live()) == [record.key.key_id]
    seeded.keys.__dict__["_clock"] = Then()
    assert seeded.keys.live() == {}


def test_every_fault_of_a_key_is_named(ask: Ask) -> None:
    """Wrong limits and choices in one message; a model that there is not."""
    code, out, err = ask(
        "keys", "create", " ", "--expires-days", "0", "--requests-per-minute", "-1", "--told", "no"
    )
    assert (code, out) == (USAGE, "")
    for name in ("name", "expires_days", "requests_per_minute", "told"):
        assert f"{name}: is" in err
    code, out, err = ask("keys", "create", "ada", "--model", "absent")
    assert (code, out) == (FAILED, "") and "There is no model 'absent'" in err


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "ada"),
        ("keys", "revoke", "x", "--reason", "y"),
        ("serve", "policy", "set", "digits", "batch_items=2"),
    ],
)
def test_only_operators_change_anything(ask: Ask, seeded: Platform, words: tuple[str, ...]) -> None:
    """Whoever cannot read the platform's token is refused; looking is free."""
    (seeded.settings.secret_dir / "api.token").unlink()
    code, out, err = ask(*words)
    assert (code, out) == (FAILED, "") and "Only an operator may do this" in err
    assert ask("keys", "list")[0] == OK
    assert ask("serve", "policy", "show", "digits")[0] == OK


def test_a_policy_is_changed_field_by_field(
    ask: Ask, told: Callable[..., dict[str, Any]]
) -> None:  # fmt: skip
    """What was set before stays, the history says who and why, the table shows the defaults."""
    shown = told("serve", "policy", "show", "digits")
    assert shown["history"] == [] and shown["policy"]["outside"] == "flag"
    told("serve", "policy", "set", "digits", "batch_latency_ms=20", "outside=refuse")
    done = told("serve", "policy", "set", "digits", "cache_bytes=1024", "--reason", "it repeats")
    assert told("serve", "policy", "show", "digits") == done
    policy = done["policy"]
    assert (policy["batch_latency_ms"], policy["outside"], policy["cache_bytes"]) == (
        20, "refuse", 1024,
    )  # fmt: skip
    assert [one["reason"] for one in done["history"]] == ["", "it repeats"]
    out = ask("serve", "policy", "show", "digits")[1]
    assert re.search(r"batch_latency_ms\W+20\W+0\W", out)


def test_every_fault_of_a_policy_is_named(ask: Ask) -> None:
    """Unknown fields, values out of range, words without a sign, fields given twice."""
    code, _, err = ask("serve", "policy", "set", "digits", "x=1", "batch_items=0", "outside=no")
    assert code == USAGE
    for name in ("x: is no field", "batch_items: is a whole number from 1", "outside: is one of"):
        assert name in err
    code, _, err = ask("serve", "policy", "set", "digits", "batch_items", "top=1", "top=2")
    assert code == USAGE and "batch_items: has no value" in err and "top: is set more than" in err
    code, _, err = ask("serve", "policy", "set", "absent", "batch_items=2")
    assert code == FAILED and "There is no model 'absent'" in err
