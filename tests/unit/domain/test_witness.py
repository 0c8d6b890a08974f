"""What the ledger says outside of itself, and whether it still says the same."""

from typing import Any

import pytest

from steelyard.domain.witness import breaks, closed_digest, published_seqs, statements

A, B = "a" * 64, "b" * 64
OCTOBER: dict[str, Any] = {
    "period_id": "2026-10", "start_us": 1, "end_us": 2, "status": "closed", "closed_us": 3,
    "closed_by": "ada", "closing_seq": 4, "totals": '{"nUSD": 5}',
}  # fmt: skip


def test_a_head_is_its_number_and_its_hash() -> None:
    """One line a day that a person can read in MLflow and check by hand."""
    assert statements({"2026-11-21": (7, A)}, []) == {"head.2026-11-21": f"7 {A}"}


def test_the_digest_of_a_closed_month_never_moves() -> None:
    """The bytes that are hashed are fixed: what was published must still compare in ten years."""
    assert statements({}, [OCTOBER]) == {
        "closed.2026-10": "dbea230bed93a486ecfef75e0763c9c9826af70149c30ad15df26e5783b60a2b"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("column", "other"),
    [("closed_us", 9), ("closed_by", "eve"), ("closing_seq", 9), ("totals", "{}"),
     ("end_us", 9), ("status", "open")],
)  # fmt: skip
def test_every_column_of_a_closed_month_is_in_its_digest(column: str, other: object) -> None:
    """Who closed it and when is in no entry's hash, so it has to be in this one."""
    assert closed_digest(OCTOBER | {column: other}) != closed_digest(OCTOBER)


def test_a_column_that_a_later_version_adds_is_not_in_the_digest() -> None:
    """An update of the schema is no alarm."""
    assert closed_digest(OCTOBER | {"note": "x"}) == closed_digest(OCTOBER)


def test_a_ledger_that_says_what_it_said_holds() -> None:
    """Heads in the chain, months closed as they were; tags of others are none of our business."""
    published = statements({"2026-11-20": (7, A), "2026-11-21": (9, B)}, [OCTOBER])
    assert published_seqs({**published, "note": "12 x"}) == [7, 9]
    assert breaks({**published, "note": "x"}, published, {7: A, 9: B}) == ()


def test_what_was_not_published_yet_is_no_break() -> None:
    """The registry was away for a day."""
    assert breaks({}, statements({"2026-11-21": (9, B)}, [OCTOBER]), {}) == ()


def test_a_head_whose_entry_is_gone_is_named_with_its_day() -> None:
    """The end was cut off, also where the ledger's own note of that day went with it (A16)."""
    (told,) = breaks({"head.2026-11-21": f"9 {A}"}, {}, {})
    assert told == "entry 9 is gone: it was published as the head of 2026-11-21"


def test_another_entry_under_a_published_number_is_named_with_both_hashes() -> None:
    """The owner computed another chain."""
    (told,) = breaks({"head.2026-11-21": f"9 {A}"}, {}, {9: B})
    assert A in told and B in told and "entry 9" in told


def test_a_note_that_was_changed_is_named_though_the_chain_holds() -> None:
    """The ledger's own note of the day names another entry of the same chain."""
    (told,) = breaks({"head.2026-11-21": f"9 {A}"}, {"head.2026-11-21": f"7 {B}"}, {7: B, 9: A})
    assert f"7 {B}" in told and f"9 {A}" in told


def test_a_closed_month_that_was_changed_or_opened_is_named() -> None:
    """With both digests where there are two."""
    published = {"closed.2026-10": A}
    (changed,) = breaks(published, {"closed.2026-10": B}, {})
    assert "2026-10" in changed and A in changed and B in changed
    (opened,) = breaks(published, {}, {})
    assert opened == "the period 2026-10 is not closed, and was published as closed"


@pytest.mark.parametrize("text", ["", "9", f"0 {A}", f"9 {A[:-1]}", f"9  {A}", f"9 {A} ", "x y"])
def test_a_tag_that_somebody_spoilt_is_a_break(text: str) -> None:
    """The witness was tampered with: that is told, and not taken for nothing published."""
    (told,) = breaks({"head.2026-11-21": text}, {"head.2026-11-21": f"9 {A}"}, {9: A})
    assert told == f"what was published as the head of 2026-11-21 is none: {text!r}"
