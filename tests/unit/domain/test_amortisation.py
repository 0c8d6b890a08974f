from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.amortisation import amortise, share_idle
from steelyard.domain.errors import InvalidInput, Refused

KWH_MJ = 3_600_000_000
TOKENS = {"s1": 2_000_000, "s2": 1_000_000, "s3": 500_000}


def test_idle_cost_is_shared_as_opencost_shares_it() -> None:
    """A node of $35 used 30, 30 and 10 %: $15, $15 and $5 (A19)."""
    nano = 10**9
    direct = {"a": 35 * nano * 3 // 10, "b": 35 * nano * 3 // 10, "c": 35 * nano // 10}
    idle = 35 * nano - sum(direct.values())
    assert share_idle(direct, idle) == {"a": 15 * nano, "b": 15 * nano, "c": 5 * nano}


def test_idle_cost_without_a_user_stays_idle() -> None:
    """There is nobody to share it with."""
    assert share_idle({"a": 0, "b": 0}, 100) == {"a": 0, "b": 0}
    assert share_idle({}, 100) == {}


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 10**15), min_size=1),
       st.integers(0, 10**15))  # fmt: skip
def test_sharing_loses_nothing(direct: dict[str, int], idle: int) -> None:
    """Direct and idle cost make the whole, to the last unit."""
    expected = sum(direct.values()) + (idle if any(direct.values()) else 0)
    assert sum(share_idle(direct, idle).values()) == expected


def test_a_teachers_energy_goes_to_its_students_by_tokens() -> None:
    """1,000 kWh to 2M, 1M and 0.5M tokens, to the last millijoule (A20)."""
    parts = amortise(1_000 * KWH_MJ, TOKENS)
    assert parts == {"s1": 2_057_142_857_143, "s2": 1_028_571_428_571, "s3": 514_285_714_286}
    assert sum(parts.values()) == 1_000 * KWH_MJ


def test_students_never_carry_more_than_the_teacher_cost() -> None:
    """What was moved before is gone; the last millijoule may go, one more is refused (A20)."""
    assert sum(amortise(100, TOKENS, amount=40, moved=60).values()) == 40
    assert sum(amortise(100, TOKENS, moved=60).values()) == 40
    with pytest.raises(Refused, match="carry 101"):
        amortise(100, TOKENS, amount=41, moved=60)
    with pytest.raises(Refused):
        amortise(100, TOKENS, moved=101)


@pytest.mark.parametrize(
    ("balance", "tokens", "amount", "moved"),
    [(-1, TOKENS, None, 0), (1, TOKENS, -1, 0), (1, TOKENS, None, -1), (1, {"s": -1}, None, 0),
     (1, {"s": 0}, None, 0), (1, {}, None, 0)],
)  # fmt: skip
def test_impossible_amortisations_are_refused(
    balance: int, tokens: dict[str, int], amount: int | None, moved: int
) -> None:
    """Negative figures, and a teacher that nobody used."""
    with pytest.raises(InvalidInput):
        amortise(balance, tokens, amount, moved)


def test_negative_costs_are_not_shared() -> None:
    """A correction is a batch of its own, not a negative cost."""
    with pytest.raises(InvalidInput):
        share_idle({"a": -1}, 1)
    with pytest.raises(InvalidInput):
        share_idle({"a": 1}, -1)


def test_shares_are_as_large_as_the_tokens_say() -> None:
    """Nobody is more than one unit away from the exact share."""
    parts = amortise(1_000_003, TOKENS)
    for student, tokens in TOKENS.items():
        assert abs(parts[student] - Fraction(1_000_003 * tokens, 3_500_000)) < 1
