"""``steelyard rollout pin``, and policies about headers, as people type them."""

import json
from collections.abc import Callable

import pytest

from steelyard.bootstrap import Platform
from steelyard.cli.app import FAILED, OK, USAGE
from steelyard.domain.pin import PIN_KEY_FILE, pinned_version

Ask = Callable[..., tuple[int, str, str]]
KEY = bytes(range(32))


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command as an operator: exit code, standard output, standard error."""
    ask = typed(seeded)
    (seeded.settings.secret_dir / PIN_KEY_FILE).write_text(KEY.hex())
    return ask


def test_a_pin_is_printed_and_nothing_else(ask: Ask, seeded: Platform) -> None:
    """Standard output is the header's value; the edge takes it until the time is over."""
    now_s = seeded.clock.now_us() // 1_000_000
    code, out, err = ask("rollout", "pin", "digits/1", "--for", "2h")
    text = out.removesuffix("\n")
    assert code == OK and "x-steelyard-pin" in err and text not in err
    assert pinned_version(text, "digits", KEY, now_s + 7_190) == 1
    assert pinned_version(text, "digits", KEY, now_s + 7_300) is None
    assert pinned_version(text, "other", KEY, now_s) is None
    _, out, _ = ask("rollout", "pin", "digits/1", "--json")
    document = json.loads(out)
    assert pinned_version(document["value"], "digits", KEY, now_s) == document["version"] == 1


@pytest.mark.parametrize("time", ["25h", "0", "soon", "-1m"])
def test_a_pin_holds_a_day_at_most(ask: Ask, time: str) -> None:
    """A time that is none, or too long, is refused."""
    code, out, err = ask("rollout", "pin", "digits/1", "--for", time)
    assert (code, out) == (USAGE, "") and "--for" in err


def test_only_operators_pin_and_only_what_there_is(ask: Ask, seeded: Platform) -> None:
    """Without the keys, or to a version that nobody registered, there is no pin."""
    assert ask("rollout", "pin", "digits/99")[0] == FAILED
    (seeded.settings.secret_dir / PIN_KEY_FILE).unlink()
    code, out, err = ask("rollout", "pin", "digits/1")
    assert (code, out) == (FAILED, "") and PIN_KEY_FILE in err
    (seeded.settings.secret_dir / "api.token").unlink()
    assert ask("rollout", "pin", "digits/1")[0] == FAILED


def test_a_policy_says_where_units_are_and_which_headers_choose(ask: Ask) -> None:
    """In one setting, kept with who and why; an empty value takes it back."""
    rules = "X-Canary=always:2,x-team=beta*:1"
    code, out, _ = ask("serve", "policy", "set", "digits", "unit_header=X-User", f"rules={rules}",
                       "unit_field=parameters.user", "--reason", "demo", "--json")  # fmt: skip
    document = json.loads(out)
    assert code == OK
    assert document["policy"]["unit_header"] == "x-user"
    assert document["policy"]["rules"] == "x-canary=always:2, x-team=beta*:1"
    assert document["history"][-1]["reason"] == "demo"
    ask("serve", "policy", "set", "digits", "rules=", "unit_header=")
    policy = json.loads(ask("serve", "policy", "show", "digits", "--json")[1])["policy"]
    assert (policy["rules"], policy["unit_header"]) == ("", "")
    assert policy["unit_field"] == "parameters.user"


@pytest.mark.parametrize(
    ("value", "why"),
    [("unit_header=Cookie", "credentials"), ("unit_header=x user", "no name of a header"),
     ("unit_header=X-Steelyard-Unit", "edge's own"), ("unit_field=a..b", "four names"),
     ("unit_field=parameters.account", "unit_fields"), ("rules=x-canary", "HEADER=VALUE:VERSION"),
     ("rules=x-canary=a b:1", "HEADER=VALUE:VERSION"), ("rules=x-canary=a:0", "VERSION"),
     ("rules=authorization=abc:1", "credentials"),
     ("rules=" + ",".join(f"x-{n}=y:1" for n in range(9)), "at most 8 rules")],
)  # fmt: skip
def test_what_the_edge_could_not_go_by_is_refused(ask: Ask, value: str, why: str) -> None:
    """With the reason; the policy stays as it was."""
    code, _, err = ask("serve", "policy", "set", "digits", "batch_items=3", value)
    assert code == USAGE and why in err
    policy = json.loads(ask("serve", "policy", "show", "digits", "--json")[1])["policy"]
    assert policy["batch_items"] == 64
