"""The W3C trace context of a request: which trace an answer's record belongs to."""

import re
from collections.abc import Mapping

TRACEPARENT = "traceparent"
_CONTEXT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def trace_id(headers: Mapping[str, str]) -> str | None:
    """The trace id of lower-case named headers; None without a valid ``traceparent``.

    A later version of the format may append fields after a dash; what is malformed is ignored, as
    the specification (www.w3.org/TR/trace-context, section 3.2) asks.

    >>> trace_id({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    '4bf92f3577b34da6a3ce929d0e0e4736'
    >>> trace_id({"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}) is None
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
    return found[1] if not rest or later else None
