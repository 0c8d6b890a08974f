"""How the edge chooses a version, in C, against the rules in Python."""

import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.domain.header_rules import rules_in, version_by
from steelyard.domain.pin import Pin, pinned_version
from steelyard.domain.serving_policy import ServingPolicy, changed
from steelyard.domain.traffic import Share, bucket
from steelyard.domain.unit_key import SMALL_BYTES, unit_of
from steelyard_serving.edge.files import edge_files
from steelyard_serving.secret_files import bucket_key, pin_key

from .conftest import Chosen, in_c

pytestmark = pytest.mark.integration
DEPLOYED = frozenset(("m", number) for number in range(1, 6))
odd = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def steer(chosen: Chosen, **values: str) -> None:
    """Make a policy live."""
    chosen.router.steer({"m": changed(ServingPolicy(), values)}, DEPLOYED)


def agrees(chosen: Chosen, headers: list[tuple[str, str]], body: bytes, **policy: str) -> None:
    """The edge finds the unit that the rule in Python finds."""
    status, told = chosen.ask({name: value.encode("latin-1") for name, value in headers}, body)
    unit = unit_of(headers, body, **policy)
    assert (status, told["unit"]) == (200, unit), body
    if unit is not None:
        expected = bucket(bucket_key(chosen.settings), "r1", unit)
        assert told["bucket"] == str(expected)


@pytest.fixture(scope="module", autouse=True)
def routed(chosen: Chosen) -> None:
    """Half of the units are the canary's."""
    chosen.route(Share(2, 0, 5_000))


def test_a_unit_is_the_first_that_is_said(chosen: Chosen) -> None:
    """X-Unit-Id, then the policy's header, then its field; each sticks to its own bucket."""
    steer(chosen, unit_header="X-User", unit_field="parameters.user")
    body = b'{"parameters":{"user":"cy"}}'
    said = [("x-unit-id", "ada"), ("x-user", "bob")]
    for first in range(3):
        agrees(chosen, said[first:], body, header="x-user", field="parameters.user")
        assert chosen.ask(dict(said[first:]), body)[1]["unit"] == ["ada", "bob", "cy"][first]
    assert chosen.ask({"x-user": ""}, b"{}")[1]["unit"] is None
    assert chosen.ask({"x-user": "u" * 257}) == (400, {"error": "the unit: at most 256 bytes"})
    steer(chosen)
    assert chosen.ask({"x-user": "bob"}, body)[1]["unit"] is None


@in_c
@pytest.mark.parametrize(
    "value",
    ['"ada"', '"a\\u0064\\u0061"', '"a\\/b"', '"\\u20ac"', '"ünï"', '"\\u00e9"', '" "', '""', "12",
     "-0", "1.9", "-3e2", "9007199254740991", "9007199254740992", "true", "false", "null", '["a"]',
     '{"a":"b"}', '"tab\\t"', '"q\\"\\\\"', '"' + "x" * 256 + '"', '"' + "x" * 257 + '"'],
)  # fmt: skip
def test_a_field_of_the_body_is_read_as_the_rule_reads_it(chosen: Chosen, value: str) -> None:
    """Strings, whole numbers, and whatever else people send; what is odd is no unit."""
    steer(chosen, unit_field="parameters.user")
    body = f'{{"inputs":[1e-5],"parameters":{{"x":{{"user":"no"}},"user":{value}}}}}'.encode()
    agrees(chosen, [], body, field="parameters.user")


@in_c
@pytest.mark.parametrize(
    "body",
    ['{"parameters":{"user":"a","user":"b"}}', '{"parameters":{},"parameters":{"user":"b"}}',
     '{"parameters":[{"user":"a"}]}', '[{"parameters":{"user":"a"}}]', '{"user":"a"}', "12", "",
     '{"\\u0070arameters":{"user":"a"}}',
     '{"a":' + "[" * 19 + "]" * 19 + ',"parameters":{"user":7}}',
     '{"a":' + "[" * 20 + "]" * 20 + ',"parameters":{"user":7}}',
     ' { "parameters" : {\n"user" :\t"a" } } '],
)  # fmt: skip
def test_the_first_field_of_a_name_counts(chosen: Chosen, body: str) -> None:
    """Duplicates, lists, escaped names and depths that HAProxy does not go to."""
    steer(chosen, unit_field="parameters.user")
    agrees(chosen, [], body.encode(), field="parameters.user")


def test_a_large_body_has_no_unit(chosen: Chosen) -> None:
    """Up to 64 KiB are read, not a byte more."""
    steer(chosen, unit_field="parameters.user")
    rest = SMALL_BYTES - len(b'{"parameters":{"user":"a"},"x":""}')
    for more, unit in ((rest, "a"), (rest + 1, None), (300_000, None)):
        body = b'{"parameters":{"user":"a"},"x":"' + b"x" * more + b'"}'
        agrees(chosen, [], body, field="parameters.user")
        assert chosen.ask({}, body)[1]["unit"] == unit


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
scalars = texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
values = st.recursive(
    scalars | st.none() | st.just("user"),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(["user", "parameters", "a"]) | texts, below, max_size=3)
    ),
    max_leaves=8,
)


@in_c
@odd
@given(
    parameters=st.dictionaries(st.sampled_from(["user", "users", "parameters"]), values),
    others=st.dictionaries(st.sampled_from(["inputs", "id", "user"]), values),
    first=st.booleans(), escaped=st.booleans(),
)  # fmt: skip
def test_any_body_has_the_unit_that_the_rule_finds(
    chosen: Chosen, parameters: dict[str, Any], others: dict[str, Any], first: bool, escaped: bool
) -> None:
    """Nested, in any order, with escapes or without."""
    steer(chosen, unit_field="parameters.user")
    whole = {"parameters": parameters, **others} if first else {**others, "parameters": parameters}
    body = json.dumps(whole, ensure_ascii=escaped).encode()
    agrees(chosen, [], body, field="parameters.user")


RULES = "x-canary=always:3, x-team=be*:2, x-canary=never:4, x-team=beta:5"


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-canary": "always"}, {"X-Canary": "always", "x-team": "beta"}, {"x-canary": "Always"},
     {"x-canary": "alwaysx"}, {"x-canary": " always "}, {"x-team": "be"}, {"x-team": "b"},
     {"x-canary": "never", "x-team": "ab"}, {"x-other": "x-canary: always"}, {"x-team": ""}],
)  # fmt: skip
def test_the_first_rule_that_holds_decides(chosen: Chosen, headers: dict[str, str]) -> None:
    """Its version answers, with the arm of a request that asked for it; else the bucket decides."""
    steer(chosen, rules=RULES)
    lowered = [(name.lower(), value.strip()) for name, value in headers.items()]
    version = version_by(rules_in(RULES), lowered, range(1, 6))
    _, told = chosen.ask({**headers, "x-unit-id": "ada"})
    if version is None:
        assert told["arm"] in ("stable", "canary")
    else:
        assert (told["version"], told["arm"]) == (version, "pinned")


def test_a_rule_to_a_version_that_is_not_deployed_is_skipped(chosen: Chosen) -> None:
    """The next one decides; rules are about inference, and a version in the path goes before."""
    policy = changed(ServingPolicy(), {"rules": "x-canary=always:9, x-canary=al*:4"})
    chosen.router.steer({"m": policy}, DEPLOYED)
    assert chosen.ask({"x-canary": "always"})[1]["version"] == 4
    there = chosen.ask({"x-canary": "always"}, path="/v2/models/m/versions/5/infer")[1]
    assert (there["version"], there["arm"]) == (5, "pinned")
    steer(chosen)
    assert chosen.ask({"x-canary": "always"})[1]["arm"] != "pinned"


def test_a_pin_sends_to_its_version(chosen: Chosen) -> None:
    """Under the operators' key, until it expires; the replica sees a pinned request."""
    key, until = pin_key(chosen.settings), int(time.time()) + 600
    text = Pin("m", 4, until).sealed(key)
    assert pinned_version(text, "m", key, until - 1) == 4
    told = chosen.ask({"x-steelyard-pin": text, "x-unit-id": "ada"})[1]
    assert (told["version"], told["arm"]) == (4, "pinned")
    in_path = chosen.ask({"x-steelyard-pin": text}, path="/v2/models/m/versions/5/infer")[1]
    assert in_path["version"] == 5
    absent = Pin("m", 9, until).sealed(key)
    assert chosen.ask({"x-steelyard-pin": absent}) == (404, {"error": "m/9 is not deployed"})


def test_a_pin_that_does_not_hold_is_refused(chosen: Chosen) -> None:
    """Expired, of another model or key, changed, or no pin at all: 403, and no replica is asked."""
    key, now = pin_key(chosen.settings), int(time.time())
    good = Pin("m", 4, now + 600).sealed(key)
    longer = hmac.digest(b"other", b"m/4/9999999999", "sha256").hex()
    wrong = [
        Pin("m", 4, now).sealed(key), Pin("m", 4, now - 1).sealed(key),
        Pin("other", 4, now + 600).sealed(key), Pin("m", 4, now + 600).sealed(b"k" * 32),
        good.replace("4.", "5.", 1), good.upper(), good[:-1], good + "0", "4", "4..", "..", "", "é",
        f"4.9999999999.{longer}", f"4.{now + 600}.", f"04.{good[2:]}",
    ]  # fmt: skip
    before = len(chosen.versions.asked)
    for text in wrong:
        status, told = chosen.ask({"x-steelyard-pin": text.encode()})
        assert (status, told) == (403, {"error": "this pin is not valid, or not any more"}), text
        assert pinned_version(text, "m", key, now) is None
    assert len(chosen.versions.asked) == before


def test_a_restarted_edge_goes_by_what_was_set(chosen: Chosen) -> None:
    """Policies about headers and fields are on disk before they are live."""
    steer(chosen, unit_header="x-user", rules="x-canary=always:3")
    line = edge_files(chosen.settings).steering.read_text()
    assert line == "m x-user&&=x-canary:always:3|\n"
