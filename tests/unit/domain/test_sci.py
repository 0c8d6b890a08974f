import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.quantities import Carbon
from steelyard.domain.sci import Sci, SciForAi

KG_UG = 10**9


def test_the_consumers_score_per_million_tokens() -> None:
    """6,500 kg over 50 billion tokens are 130 g per million; the draft says 0.13 g (A4)."""
    week = Sci(Carbon(5_000 * KG_UG), Carbon(1_500 * KG_UG), 50 * 10**9, "token")
    assert week.grams_per(10**6) == 130


def test_the_providers_score_per_exaflop() -> None:
    """200,000 kg over 5e22 FLOP are 4 kg per 1e18 FLOP; the draft says 4 g (A4)."""
    made = Sci(Carbon(180_000 * KG_UG), Carbon(20_000 * KG_UG), 5 * 10**22, "FLOP")
    assert made.grams_per(10**18) == 4_000


def test_both_scores_stand_side_by_side() -> None:
    """Making and running have different functional units, so an unknown one stays unknown."""
    provider = Sci(Carbon(4 * KG_UG), Carbon(0), 10**18, "FLOP")
    assert SciForAi(provider, None).consumer is None


def test_a_score_without_a_functional_unit_is_refused() -> None:
    """Carbon per nothing is not 0 and not infinite: it is not a score."""
    with pytest.raises(InvalidInput, match="at least one request"):
        Sci(Carbon(1), Carbon(1), 0, "request")
