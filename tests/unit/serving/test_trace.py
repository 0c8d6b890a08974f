import pytest

from steelyard_serving.trace import trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("given", [f"00-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"])
def test_a_request_in_a_trace_is_recorded_under_it(given: str) -> None:
    """The W3C's header, of this version and of later ones, which may say more."""
    assert trace_id({"traceparent": given}) == TRACE


@pytest.mark.parametrize(
    "given",
    [
        "", "nonsense", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE[1:]}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01.more", f"00-{TRACE}-{SPAN}",
    ],
)  # fmt: skip
def test_what_is_no_trace_is_ignored(given: str) -> None:
    """As the specification asks: a malformed header is no reason to refuse a request."""
    assert trace_id({"traceparent": given}) is None
    assert trace_id({}) is None
