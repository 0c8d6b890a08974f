import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.traffic import (
    BUCKETS,
    MOST_CANDIDATES,
    Route,
    Share,
    bucket,
    choose,
    in_order,
)

weights = st.integers(0, BUCKETS)


def _route(weight_bp: int) -> Route:
    return Route("m", 1, 1, in_order([Share(2, 0, weight_bp)]), "r1")


@st.composite
def regions(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Up to four regions of buckets, apart from each other: first bucket and width."""
    cuts = sorted(draw(st.sets(st.integers(0, BUCKETS), min_size=2, max_size=8)))
    return [(low, high - low) for low, high in zip(cuts[::2], cuts[1::2], strict=False)]


@st.composite
def growing(draw: st.DrawFn) -> tuple[Route, Route]:
    """Two tables of the same regions; every candidate has at least as much in the second one."""
    low, high = [], []
    for version, (offset, width) in enumerate(draw(regions()), start=2):
        one, other = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
        low.append(Share(version, offset, one))
        high.append(Share(version, offset, other))
    return Route("m", 1, 1, in_order(low), "r1"), Route("m", 1, 2, in_order(high), "r1")


@given(st.binary(min_size=1), st.text(), weights, weights)
def test_raising_the_weight_moves_nobody_back(
    secret: bytes, unit: str, one: int, other: int
) -> None:
    """A user who has seen the canary keeps it while the rollout goes forward."""
    low, high = sorted((one, other))
    position = bucket(secret, "r1", unit)
    if choose(_route(low), position)[0] == "canary":
        assert choose(_route(high), position) == ("canary", 2)


@given(growing())
def test_raising_weights_moves_nobody_back_nor_to_another_candidate(
    tables: tuple[Route, Route],
) -> None:
    """However many candidates grow at once; lowering them again moves exactly the last ones."""
    before, after = tables
    asked = {share.version: share for share in after.shares}
    had = {share.version: share.weight_bp for share in before.shares}
    for position in range(BUCKETS):
        low, high = choose(before, position), choose(after, position)
        if low == high:
            continue
        share = asked[high[1]]
        assert low == ("stable", 1) and high[0] == "canary"
        assert position >= share.offset_bp + had.get(share.version, 0)


@given(growing())
def test_every_share_is_exact_and_the_rest_is_stables(tables: tuple[Route, Route]) -> None:
    """Shares and the rest sum to all buckets."""
    for table in tables:
        versions = [choose(table, position)[1] for position in range(BUCKETS)]
        assert versions.count(1) == table.stable_bp
        assert all(versions.count(s.version) == s.weight_bp for s in table.shares)


def test_of_100_000_users_none_flips_between_two_candidates() -> None:
    """Both grow from 1 to 25 % each, step by step, and nobody who had one is given another."""
    positions = [bucket(b"secret", "r1", f"user-{n}") for n in range(100_000)]
    seen: dict[int, int] = {}
    for weight in (100, 500, 1_000, 2_500):
        table = Route("m", 1, 1, (Share(2, 0, weight), Share(3, 5_000, weight)), "r1")
        for user, position in enumerate(positions):
            arm, version = choose(table, position)
            assert seen.get(user, version) == version
            if arm == "canary":
                seen[user] = version
    assert 48_000 < len(seen) < 52_000


@given(st.binary(min_size=1), st.text(), st.text())
def test_a_unit_always_has_the_same_bucket(secret: bytes, lineage: str, unit: str) -> None:
    """Within the range that the weights count in."""
    position = bucket(secret, lineage, unit)
    assert position == bucket(secret, lineage, unit)
    assert 0 <= position < BUCKETS


def test_the_next_rollout_draws_another_cohort() -> None:
    """It is not always the same users who try new versions first; a retry keeps its cohort."""
    first = [bucket(b"secret", "r1", str(n)) < 500 for n in range(4_000)]
    second = [bucket(b"secret", "r2", str(n)) < 500 for n in range(4_000)]
    assert first != second
    assert 120 < sum(first) < 280


def test_a_table_without_canary_sends_all_to_stable() -> None:
    """The state after every ended rollout."""
    assert choose(Route("m", 1, 1), 0) == ("stable", 1)


@pytest.mark.parametrize(
    "faulty",
    [
        [Share(2, 0, -1)],
        [Share(2, 0, 0)],
        [Share(2, 0, BUCKETS + 1)],
        [Share(2, 9_000, 1_001)],
        [Share(2, 0, 500), Share(3, 499, 1)],
        [Share(3, 500, 1), Share(2, 0, 500)],
    ],
)
def test_shares_outside_the_buckets_or_of_others_are_refused(faulty: list[Share]) -> None:
    """And those that are not in order, in which the edge looks at them."""
    with pytest.raises(ValueError, match="own buckets"):
        Route("m", 1, 1, tuple(faulty))


def test_more_candidates_than_the_edge_looks_at_are_refused() -> None:
    """Four beside stable."""
    shares = tuple(Share(2 + n, n, 1) for n in range(MOST_CANDIDATES + 1))
    Route("m", 1, 1, shares[:-1])
    with pytest.raises(ValueError, match="at most 4 shares, found 5"):
        Route("m", 1, 1, shares)
