"""What the ledger says outside of itself, and whether it still says the same.

A chain of hashes notices neither that its newest entries were cut off nor that its owner computed
another one. So the head of each day, and a digest of each closed period, are published where the
ledger's database cannot be written from. A statement has a key (``head.2026-11-21``,
``closed.2026-10``) and a text, and is made once.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from steelyard.domain.hash_chain import digest

HEAD, CLOSED = "head.", "closed."
PERIOD_COLUMNS = ("period_id", "start_us", "end_us", "status", "closed_us", "closed_by",
                  "closing_seq", "totals")  # fmt: skip
"""What is hashed of a period. Fixed, so that a later column changes no published digest."""
_HEAD_TEXT = re.compile(r"([1-9]\d{0,17}) ([0-9a-f]{64})")
Statements = Mapping[str, str]


def statements(
    heads: Mapping[str, tuple[int, str]], closed: Iterable[Mapping[str, Any]]
) -> dict[str, str]:
    """Everything that the ledger has to say: the head of each day, each closed period.

    ``heads`` are (seq, hash) by day; ``closed`` are rows as they are stored, with ``totals`` as
    the JSON text.
    """
    said = {f"{HEAD}{day}": f"{seq} {hashed}" for day, (seq, hashed) in heads.items()}
    return said | {f"{CLOSED}{row['period_id']}": closed_digest(row) for row in closed}


def closed_digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of a closed period's canonical row: totals, last entry, when, and by whom."""
    return digest({"v": 1, **{name: row[name] for name in PERIOD_COLUMNS}})


def published_seqs(published: Statements) -> list[int]:
    """The entries that published heads name, in order."""
    heads = [text for key, text in published.items() if key.startswith(HEAD)]
    return sorted({place[0] for text in heads if (place := _place(text))})


def breaks(published: Statements, ours: Statements, hashes: Mapping[int, str]) -> tuple[str, ...]:
    """Where the ledger is not the one that was published, naming both; empty when it is.

    ``hashes`` are those of the chain's entries that published heads name; one that is not there
    is gone.

    >>> breaks({"head.2026-11-21": f"7 {'a' * 64}"}, {}, {})
    ('entry 7 is gone: it was published as the head of 2026-11-21',)
    """
    found: list[str | None] = []
    for key, text in sorted(published.items()):
        now = ours.get(key)
        if key.startswith(HEAD):
            found.append(_head_break(key.removeprefix(HEAD), text, now, hashes))
        elif key.startswith(CLOSED):
            found.append(_closed_break(key.removeprefix(CLOSED), text, now))
    return tuple(one for one in found if one is not None)


def _head_break(day: str, text: str, now: str | None, hashes: Mapping[int, str]) -> str | None:
    place = _place(text)
    if place is None:
        return f"what was published as the head of {day} is none: {text!r}"
    seq, hashed = place
    if seq not in hashes:
        return f"entry {seq} is gone: it was published as the head of {day}"
    if hashes[seq] != hashed:
        return f"entry {seq} is {hashes[seq]}, and was published as {hashed} on {day}"
    if now not in (None, text):
        return f"the noted head of {day} is {now}, and was published as {text}"
    return None


def _closed_break(period_id: str, text: str, now: str | None) -> str | None:
    if now is None:
        return f"the period {period_id} is not closed, and was published as closed"
    if now == text:
        return None
    return f"the closed period {period_id} has the digest {now}, and was published with {text}"


def _place(text: str) -> tuple[int, str] | None:
    found = _HEAD_TEXT.fullmatch(text)
    return (int(found[1]), found[2]) if found else None
