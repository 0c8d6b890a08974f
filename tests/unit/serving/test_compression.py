import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import InvalidInput
from steelyard_serving.protocols.compression import (
    COMPRESS_FROM_BYTES,
    compressed,
    decompressed,
)
from steelyard_serving.protocols.faults import TooLarge, UnknownMediaType
from steelyard_serving.protocols.protocol import Written

LIMIT = 100_000
ABC = gzip.compress(b"abc", mtime=0)
LARGE = Written(b"a" * COMPRESS_FROM_BYTES, {"content-type": "t"})


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "deflate", "identity", "GZIP", ""]))
def test_what_was_compressed_is_read_as_it_was(body: bytes, coding: str) -> None:
    """A coding changes the way and not the request."""
    sent = body
    if coding.lower() == "gzip":
        sent = gzip.compress(body)
    elif coding == "deflate":
        sent = zlib.compress(body)
    assert decompressed(sent, {"content-encoding": coding}, LIMIT) == body


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_refused_without_going_off(coding: str) -> None:
    """A small body that would become a large one takes no more room than the limit."""
    bomb = (gzip if coding == "gzip" else zlib).compress(b"\0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(TooLarge, match="larger than 100000 bytes, decompressed"):
        decompressed(bomb, {"content-encoding": coding}, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_the_limit_itself_is_allowed() -> None:
    """As many bytes as the limit are not too many."""
    body = b"\0" * LIMIT
    assert decompressed(gzip.compress(body), {"content-encoding": "gzip"}, LIMIT) == body


@pytest.mark.parametrize(
    ("body", "coding", "words"),
    [
        (b"", "gzip", "ends early"),
        (ABC[:-3], "gzip", "ends early"),
        (ABC + b"d", "gzip", "1 bytes follow"),
        (gzip.compress(b"", mtime=0) * 100, "gzip", "bytes follow"),
        (b"abc", "gzip", "is not gzip"),
        (ABC, "deflate", "is not deflate"),
        (ABC[:-8] + b"12345678", "gzip", "is not gzip"),
    ],
)
def test_what_is_not_the_coding_it_claims_is_refused(body: bytes, coding: str, words: str) -> None:
    """Cut off, padded, damaged or something else: 400, and the header is named."""
    with pytest.raises(InvalidInput, match=f"Content-Encoding: .*{words}"):
        decompressed(body, {"content-encoding": coding}, LIMIT)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd"])
def test_other_codings_are_not_read(coding: str) -> None:
    """The client is told which are."""
    with pytest.raises(UnknownMediaType, match="gzip and deflate are read"):
        decompressed(b"", {"content-encoding": coding}, LIMIT)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, gzip;q=0.5, deflate", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("identity", None),
        ("", None),
    ],
)
def test_a_large_answer_goes_as_the_client_accepts_it(accepted: str, coding: str | None) -> None:
    """The first coding that both know, and none that is ruled out."""
    answer = compressed(LARGE, {"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    headers = {} if coding is None else {"content-encoding": coding}
    assert decompressed(answer.body, headers, LIMIT) == LARGE.body


def test_a_small_answer_is_not_compressed() -> None:
    """It would cost more time than it saves."""
    small = Written(LARGE.body[1:], {})
    assert compressed(small, {"accept-encoding": "gzip"}) is small
