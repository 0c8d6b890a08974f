import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.unit_key import field_fault, header_fault, unit_of

BODY = b'{"parameters":{"user":"cy"}}'


def test_the_first_that_says_it_names_the_unit() -> None:
    """X-Unit-Id, the policy's header, the policy's field; of several headers the last."""
    said = [("x-user", "bob"), ("x-unit-id", "ada"), ("x-unit-id", "eve")]
    where = ("x-user", "parameters.user")
    assert unit_of(said, BODY, *where) == "eve"
    assert unit_of(said[:1], BODY, *where) == "bob"
    assert unit_of([("x-user", "")], BODY, *where) == "cy"
    assert unit_of([], BODY, "x-user") is None
    assert unit_of([], None, *where) is None


def test_a_long_header_is_refused() -> None:
    """A unit of 257 bytes would be cut or collide with others."""
    assert unit_of([("x-unit-id", "u" * 256)], None) == "u" * 256
    with pytest.raises(InvalidInput, match="at most 256 bytes"):
        unit_of([("x-unit-id", "u" * 257)], None)


@pytest.mark.parametrize("name", ["cookie", "Authorization", "x-steelyard-arm", "x user", "", "-"])
def test_some_headers_name_no_unit(name: str) -> None:
    """Credentials, the edge's own, and what is no header."""
    assert header_fault(name)


@pytest.mark.parametrize("path", ["", ".", "a.", "a..b", "a.b.c.d.e", "a[0]", "a b", "1a", "$.a"])
def test_some_paths_name_no_field(path: str) -> None:
    """Up to four plain names with points between."""
    assert field_fault(path) and field_fault("parameters.user_id") is None
