"""The W3C trace context of a request: which trace it belongs to, and whether that is kept."""

import re
from collections.abc import Mapping
from typing import NamedTuple

TRACEPARENT = "traceparent"
_CONTEXT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED = 1


class TraceContext(NamedTuple):
    """The trace, the caller's span in it, and whether the caller keeps the trace."""

    trace_id: str
    span_id: str
    sampled: bool


def context(headers: Mapping[str, str]) -> TraceContext | None:
    """The context of lower-case named headers; None without a valid ``traceparent``.

    A later version of the format may append fields after a dash; what is malformed is ignored, as
    the specification (www.w3.org/TR/trace-context, section 3.2) asks.

    >>> context({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    TraceContext(trace_id='4bf92f3577b34da6a3ce929d0e0e4736', span_id='00f067aa0ba902b7', \
sampled=True)
    >>> context({"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}) is None
    True
    """
    given = headers.get(TRACEPARENT)
    if given is None:
        return None
    found = _CONTEXT.match(given)
    if found is None:
        return None
    rest = given[found.end() :]
    later = rest.startswith("-") and not given.startswith("00")
    if rest and not later:
        return None
    return TraceContext(found[1], found[2], bool(int(found[3], 16) & _SAMPLED))


def trace_id(headers: Mapping[str, str]) -> str | None:
    """The trace id alone, for the record of an answer."""
    found = context(headers)
    return None if found is None else found.trace_id
