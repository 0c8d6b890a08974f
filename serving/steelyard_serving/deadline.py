"""Until when a request's answer is of use to who asked, as he says it himself."""

from steelyard.domain.errors import SteelyardError
from steelyard_serving.protocols.faults import brief, invalid
from steelyard_serving.protocols.protocol import Headers

TIMEOUT = "x-request-timeout-ms"
"""Whole milliseconds from the request's arrival here; at 0 it is over already."""


class Expired(SteelyardError):
    """Nobody waits for the answer any more, so nothing was inferred.

    It is answered with 504, which the edge passes on: to try again would be as late. It says
    nothing about the version, so it is none of its errors.
    """

    status = 504

    def __init__(self) -> None:
        super().__init__("the request's time was over before its inference began")


def deadline_ns(headers: Headers, timeout_us: int | None, arrived_ns: int) -> int | None:
    """The moment by the clock of ``arrived_ns``; None: the client set none.

    ``timeout_us`` is what the request itself says, where 0 is no limit, as Triton has it. Of two
    limits the shorter one holds.

    Raises:
        InvalidInput: the header is no whole number.
    """
    given = headers.get(TIMEOUT)
    if given is None:
        return arrived_ns + timeout_us * 1_000 if timeout_us else None
    limit_us = _milliseconds(given) * 1_000
    return arrived_ns + min(limit_us, timeout_us or limit_us) * 1_000


def _milliseconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise invalid("X-Request-Timeout-Ms", f"must be whole milliseconds, found {brief(text)}")
    return int(text)
