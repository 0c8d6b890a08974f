from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.header_rules import (
    HeaderRule,
    rules_faults,
    rules_in,
    version_by,
    written,
)

names = st.from_regex(r"x-[a-z0-9]{1,6}", fullmatch=True)
values = st.from_regex(r"[A-Za-z0-9._/+@~-]{1,8}", fullmatch=True)
rules = st.builds(HeaderRule, names, values, st.booleans(), st.integers(1, 999_999_999))


@given(st.lists(rules, max_size=8))
def test_rules_read_back_as_they_were_written(some: list[HeaderRule]) -> None:
    """What a policy holds is what somebody set."""
    assert rules_faults(written(some)) == []
    assert rules_in(written(some)) == tuple(some)


def test_the_first_rule_to_a_deployed_version_decides() -> None:
    """In the order of the policy; one that leads nowhere is skipped."""
    some = rules_in("x-team=a:3, x-team=a*:2, x-user=ada:1")
    headers = [("x-user", "ada"), ("x-team", "a")]
    assert version_by(some, headers, {1, 2, 3}) == 3
    assert version_by(some, headers, {1, 2}) == 2
    assert version_by(some, headers, {1}) == 1
    assert version_by(some, headers, set()) is None
    assert version_by(some, [("x-team", "b"), ("x-user", "Ada")], {1, 2, 3}) is None


def test_every_wrong_rule_is_named() -> None:
    """So that one round is enough to mend a policy."""
    faults = rules_faults("x-team=a:3, nothing, cookie=a:1, x-steelyard-pin=a:1, x-team=a:-1")
    assert len(faults) == 4
    assert "'nothing'" in faults[0] and "cookie carries credentials" in faults[1]
