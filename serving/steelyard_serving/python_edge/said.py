"""What the edge answers by itself: the statuses and bodies of HAProxy's configuration."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

JSON = {"content-type": "application/json"}
AGAIN = {"retry-after": "1"}
PRIVATE = "x-steelyard-"
"""How headers begin that only the platform may send."""


class Asked(NamedTuple):
    """A request: its path as it came, and its headers, with names in lower case.

    ``lines`` are all headers in order, ``headers`` the last of each name; neither has any that
    only the platform may send, but for ``pin``, an operator's. ``arrived_us`` is since 1970.
    """

    method: str
    path: str
    lines: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    prediction_id: str
    arrived_us: int
    pin: str | None = None


class Said(NamedTuple):
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = JSON


def document(text: str) -> Said:
    """An answer to a question about the server."""
    return Said(200, text.encode())


def refusal(status: int, error: str, headers: dict[str, str] | None = None) -> Said:
    """A body of the Open Inference Protocol that says what is wrong."""
    return Said(status, f'{{"error":"{error}"}}'.encode(), JSON | (headers or {}))


def scoring_refusal(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Said:
    """The same in the words of MLflow's scoring."""
    body = f'{{"error_code":"{code}","message":"{message}"}}'
    return Said(status, body.encode(), JSON | (headers or {}))


BUSY = refusal(503, "the model is busy", {**AGAIN, "x-overloaded": "1"})
ABSENT = refusal(503, "no model server answers", AGAIN)
ASTRAY = refusal(503, "the model is not being served right now", AGAIN)
BROKE_OFF = refusal(502, "the model server broke off")
TOOK_TOO_LONG = refusal(504, "the model server took too long")
TOO_SLOW = refusal(408, "the request did not arrive in time")
MALFORMED = refusal(400, "malformed HTTP request")
OFFERED = refusal(400, "this is HTTP/1.1 alone: send a body without the header Upgrade")
FAILED = refusal(500, "internal error")
