from typing import Any

import pytest
from sqlalchemy.sql import quoted_name

from steelyard.domain.hash_chain import GENESIS, Break, canonical, first_break, link

BUSY = {"account": "model:fraud/3:inference:busy", "amount": 500_000_000, "seq": 1,
        "unit": "nUSD", "v": 1}  # fmt: skip
ENTRY = {"amount": 5, "batch_id": "b1", "batch_sha256": "c0", "coef_ids": [], "credit": "p",
         "debit": "m", "idem_key": "k1", "period_end_us": 2, "period_id": "q",
         "period_start_us": 1, "price_id": None, "recorded_us": 3, "reverses_seq": None, "seq": 1,
         "unit": "nUSD", "v": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (BUSY, "530fab0941854388414755e6ceb71364cf02762926d4bd2656227fac4aee2b34"),
        (ENTRY, "36ae283c3fce42e6de999ed50ae4cb71609fe0731f55efc8088a2f16ae08b9a7"),
    ],
)
def test_the_published_vectors_are_reproduced(row: dict[str, Any], expected: str) -> None:
    """Anyone with the design can recompute the ledger's hashes."""
    assert link(GENESIS, row) == expected


def test_equal_text_has_equal_bytes() -> None:
    """Order of keys and the way an accent is composed do not matter; a float is refused."""
    assert canonical({"b": "e\u0301", "a": 1}) == canonical({"a": 1, "b": "\u00e9"})
    with pytest.raises(TypeError, match="amount: float"):
        canonical({"amount": 1.0})


def _chain(length: int) -> list[tuple[dict[str, Any], str, str]]:
    rows, previous = [], GENESIS
    for seq in range(1, length + 1):
        row = {"seq": seq, "amount": seq * 10, "v": 1}
        rows.append((row, previous, link(previous, row)))
        previous = rows[-1][2]
    return rows


def test_the_first_place_that_does_not_hold_is_named() -> None:
    """A changed row, a missing one, one out of order, one whose hash was recomputed."""
    chain = _chain(4)
    assert first_break(chain) is None
    assert first_break([]) is None
    changed = [*chain[:2], ({**chain[2][0], "amount": 31}, *chain[2][1:]), chain[3]]
    assert first_break(changed) == Break(3, "its content was changed after it was written")
    assert first_break(chain[:1] + chain[2:]) == Break(2, "entry 2 is missing, found 3")
    assert first_break(chain[1:]) == Break(1, "entry 1 is missing, found 2")
    row = changed[2][0]
    rehashed = [*chain[:2], (row, chain[2][1], link(chain[2][1], row)), chain[3]]
    assert first_break(rehashed) == Break(4, "does not follow the entry before it")


def test_column_names_are_keys_like_any_text() -> None:
    """A row read from a database has the same bytes as one written by hand."""
    assert canonical({quoted_name("amount", None): 5}) == canonical({"amount": 5})
