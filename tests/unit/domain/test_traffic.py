import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.traffic import BUCKETS, Route, bucket, choose

weights = st.integers(0, BUCKETS)


def _route(weight_bp: int) -> Route:
    return Route("m", stable=1, generation=1, canary=2, weight_bp=weight_bp, lineage="r1")


@given(st.binary(min_size=1), st.text(), weights, weights)
def test_raising_the_weight_moves_nobody_back(
    secret: bytes, unit: str, one: int, other: int
) -> None:
    """A user who has seen the canary keeps it while the rollout goes forward."""
    low, high = sorted((one, other))
    position = bucket(secret, "r1", unit)
    if choose(_route(low), position)[0] == "canary":
        assert choose(_route(high), position) == ("canary", 2)


@given(st.binary(min_size=1), st.text(), st.text())
def test_a_unit_always_has_the_same_bucket(secret: bytes, lineage: str, unit: str) -> None:
    """Within the range that the weights count in."""
    position = bucket(secret, lineage, unit)
    assert position == bucket(secret, lineage, unit)
    assert 0 <= position < BUCKETS


@given(weights)
def test_the_weight_is_the_exact_share_of_buckets(weight_bp: int) -> None:
    """At 0 nobody gets the canary, at 10,000 everybody."""
    arms = [choose(_route(weight_bp), position)[0] for position in range(0, BUCKETS)]
    assert arms.count("canary") == weight_bp


def test_the_next_rollout_draws_another_cohort() -> None:
    """It is not always the same users who try new versions first; a retry keeps its cohort."""
    first = [bucket(b"secret", "r1", str(n)) < 500 for n in range(4_000)]
    second = [bucket(b"secret", "r2", str(n)) < 500 for n in range(4_000)]
    assert first != second
    assert 120 < sum(first) < 280


def test_a_table_without_canary_sends_all_to_stable() -> None:
    """The state after every ended rollout."""
    assert choose(Route("m", 1, 1), 0) == ("stable", 1)


@pytest.mark.parametrize("faulty", [-1, BUCKETS + 1])
def test_a_weight_outside_the_buckets_is_refused(faulty: int) -> None:
    """So is a weight without a canary."""
    with pytest.raises(ValueError, match="weight_bp is in"):
        _route(faulty)
    with pytest.raises(ValueError, match="needs a canary"):
        Route("m", 1, 1, None, 500)
