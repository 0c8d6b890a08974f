"""A chain of hashes over rows: canonical bytes, the link, and the check.

Changing any byte of any row breaks every hash from there on. The format has a version ``v`` in
the hashed bytes; a new format is a new ``v``, old rows keep theirs.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

GENESIS = "0" * 64
PLAIN_INTEGERS = frozenset({"seq", "v"})


def canonical(row: Mapping[str, Any]) -> bytes:
    """The one byte string of a row: sorted keys, integers as decimal strings, NFC text.

    ``seq`` and ``v`` stay JSON numbers. Missing is ``null``.

    >>> canonical({"seq": 1, "amount": 5, "note": None})
    b'{"amount":"5","note":null,"seq":1}'

    Raises:
        TypeError: a value is a float, which has no exact text, or of another unknown type.
    """
    # Most values are ASCII text and integers; a call for each would cost more than the encoding.
    # Column names are a kind of str that the encoder does not take as keys.
    plain = {
        str(key): value if type(value) is str and value.isascii()
        else str(value) if type(value) is int and key not in PLAIN_INTEGERS
        else _plain(key, value)
        for key, value in row.items()
    }  # fmt: skip
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


def _plain(key: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if type(value) is int:
        return value if key in PLAIN_INTEGERS else str(value)
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    raise TypeError(f"{key}: {type(value).__name__} has no canonical form")


def digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical bytes, lower-case hex."""
    return sha256(canonical(row)).hexdigest()


def link(previous: str, row: Mapping[str, Any]) -> str:
    """The hash of a row that follows the row whose hash is ``previous``."""
    return link_bytes(previous, canonical(row))


def link_bytes(previous: str, content: bytes) -> str:
    """The same, of a row whose canonical bytes are known."""
    return sha256(previous.encode() + b"\n" + content).hexdigest()


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where a chain does not hold."""

    seq: int
    what: str


def first_break(rows: Iterable[tuple[Mapping[str, Any], str, str]]) -> Break | None:
    """Check ``(row, prev_hash, hash)`` triples in order; None when every link holds."""
    previous = GENESIS
    expected = 1
    for row, prev_hash, stored in rows:
        seq = int(row["seq"])
        if seq != expected:
            return Break(expected, f"entry {expected} is missing, found {seq}")
        if prev_hash != previous:
            return Break(seq, "does not follow the entry before it")
        if link(previous, row) != stored:
            return Break(seq, "its content was changed after it was written")
        previous = stored
        expected += 1
    return None
