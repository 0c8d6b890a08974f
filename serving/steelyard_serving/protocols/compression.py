"""Bodies that travel compressed: gzip, and deflate, which is a zlib stream.

A body is decompressed piece by piece into no more room than the limit, so that a small body that
would become a large one is refused before it does.
"""

import zlib
from collections.abc import Mapping

from steelyard_serving.protocols.faults import TooLarge, UnknownMediaType, unreadable
from steelyard_serving.protocols.protocol import Headers, Written

LEVEL = 1
"""The fastest: the processor that compresses is the one that would infer."""

COMPRESS_FROM_BYTES = 16 * 1024
"""A smaller answer goes as it is: libraries accept gzip unasked, and it would only cost time."""

_WINDOW: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_FIELD = "Content-Encoding"


def decompressed(body: bytes, headers: Headers, limit_bytes: int) -> bytes:
    """The body as its ``Content-Encoding`` means it.

    Raises:
        UnknownMediaType: the coding is not read here.
        TooLarge: it is larger than the limit.
        InvalidInput: it is not what the header says, or ends early.
    """
    given = headers.get("content-encoding")
    if given is None:
        return body
    coding = given.strip().lower().removeprefix("x-")
    if coding in ("", "identity"):
        return body
    if coding not in _WINDOW:
        raise UnknownMediaType(f"{_FIELD}: gzip and deflate are read, found {given[:60]!r}")
    return _inflated(body, coding, limit_bytes)


def compressed(written: Written, headers: Headers) -> Written:
    """The answer in a coding that the client accepts, when it is large enough to gain by it."""
    if len(written.body) < COMPRESS_FROM_BYTES:
        return written
    coding = _accepted(headers.get("accept-encoding", ""))
    if coding is None:
        return written
    compressor = zlib.compressobj(LEVEL, wbits=_WINDOW[coding])
    body = compressor.compress(written.body) + compressor.flush()
    return Written(body, {**written.headers, "content-encoding": coding})


def _inflated(body: bytes, coding: str, limit_bytes: int) -> bytes:
    stream = zlib.decompressobj(_WINDOW[coding])
    try:
        inflated = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise unreadable(_FIELD, f"the body is not {coding}: {error}") from error
    if len(inflated) > limit_bytes:
        raise TooLarge(f"the body is larger than {limit_bytes} bytes, decompressed")
    if not stream.eof:
        raise unreadable(_FIELD, f"the {coding} body ends early")
    # A gzip body may have several members by the letter; a million empty ones are an attack.
    if stream.unused_data:
        raise unreadable(_FIELD, f"{len(stream.unused_data)} bytes follow the {coding} body")
    return inflated


def _accepted(header: str) -> str | None:
    """The first coding of ours that an ``Accept-Encoding`` names and does not rule out."""
    for one in header.lower().split(","):
        coding, _, parameters = one.partition(";")
        refused = parameters.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        if coding.strip() in _WINDOW and not refused:
            return coding.strip()
    return None
