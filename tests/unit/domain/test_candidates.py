"""Regions, tables and the choice among several candidates, as rules alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.advance import at_step
from steelyard.domain.candidates import apart, moved, new_table, regions, settled, table, together
from steelyard.domain.choice import claim
from steelyard.domain.rollout import Rival, Rollout
from steelyard.domain.rollout_plan import Candidate, Plan, Step, default_metrics
from steelyard.domain.traffic import BUCKETS, Route, Share

STEPS = (Step(100), Step(2_500), Step(5_000), Step(BUCKETS))
PLAN = Plan(STEPS, default_metrics())


def _rollouts(weights: list[int], step: int) -> list[Rollout]:
    """Candidates from version 2 on that are all at one step."""
    plan = replace(PLAN, candidates=tuple(Candidate(n, w) for n, w in enumerate(weights, start=2)))
    return [
        at_step(
            Rollout(f"r{r.version}", "m", "canary", 1, r.version, plan, "r2", 0, "ada",
                    offset_bp=r.offset_bp, max_weight_bp=r.max_weight_bp), step,
        )
        for r in regions(plan)
    ]  # fmt: skip


shares = st.lists(st.integers(100, 2_500), min_size=1, max_size=4)


@given(shares, st.integers(0, 2), st.integers(0, 2))
def test_regions_are_apart_and_the_table_sums_to_all_buckets(
    weights: list[int], one: int, other: int
) -> None:
    """At every step; and going on never takes a bucket from a candidate."""
    low, high = (_rollouts(weights, step) for step in sorted((one, other)))
    assert all(apart(a, b) for a in low for b in low if a is not b)
    before, after = table(low, None), table(high, None)
    assert before is not None and after is not None
    assert before.stable_bp == BUCKETS - sum(rollout.weight_bp for rollout in low)
    for small, large in zip(before.shares, after.shares, strict=True):
        assert (small.version, small.offset_bp) == (large.version, large.offset_bp)
        assert small.end_bp <= large.end_bp


@given(shares, st.data())
def test_whoever_takes_all_leaves_nothing_to_the_others(
    weights: list[int], data: st.DataObject
) -> None:
    """One table: the winner has every bucket, the others end in it."""
    rollouts = _rollouts(weights, 2)
    chosen = data.draw(st.sampled_from(rollouts))
    after = settled([at_step(one, 3) if one is chosen else one for one in rollouts], 9)
    route = table(after, None)
    assert route is not None and route.shares == (Share(chosen.candidate, 0, BUCKETS),)
    ended = [one for one in after if one.candidate != chosen.candidate]
    assert {one.reason for one in ended} <= {f"version {chosen.candidate} was chosen"}
    assert all(one.condition == "aborting" and one.weight_bp == 0 for one in ended)


def test_of_two_that_take_all_at_once_the_lower_version_does() -> None:
    """Two people promoted two candidates before either was ready."""
    both = [at_step(one, 3) for one in _rollouts([5_000, 5_000], 0)]
    assert [one.weight_bp for one in settled(both, 9)] == [BUCKETS, 0]
    live = [both[0], replace(both[1], confirmed_us=5)]
    assert [one.weight_bp for one in settled(live, 9)] == [0, BUCKETS]


def test_the_last_one_gives_the_rest_back_and_the_first_keeps_its_table() -> None:
    """A candidate that ends leaves the others' table as it is; the last one's end is a new one."""
    one, other = (replace(r, confirmed_us=1) for r in _rollouts([5_000, 5_000], 1))
    live = table([one], None)
    assert live is not None
    live = replace(live, generation=7)
    ended = replace(other, condition="degraded", weight_bp=0, ended_us=9)
    assert moved(other, ended)
    assert new_table([one, ended], live) is None
    last = replace(one, condition="degraded", weight_bp=0, ended_us=9)
    assert new_table([last], live) == Route("m", 1, 0)
    healthy = replace(last, condition="healthy", weight_bp=BUCKETS)
    assert new_table([healthy], live) == Route("m", 2, 0)


@pytest.mark.parametrize(
    ("rivals", "winner", "verdict", "reason"),
    [
        ([], "errors", "take", ""),
        ([Rival(4, "undecided"), Rival(5, "undecided")], "errors", "wait", "for version 4, 5"),
        ([Rival(4, "chosen"), Rival(5, "undecided")], "errors", "wait", "version 4 was chosen"),
        ([Rival(4, "proven", 0.02)], "errors", "take", ""),
        ([Rival(4, "proven", 0.01)], "errors", "take", ""),
        ([Rival(2, "proven", 0.01)], "errors", "wait", "version 2 has fewer or less by errors"),
        ([Rival(4, "proven", 0.0)], "errors", "wait", "version 4 has fewer or less by errors"),
        ([Rival(2, "proven", None)], "errors", "take", ""),
        ([Rival(4, "proven", 0.02)], "ask", "ask", "versions 3, 4 are all proven"),
    ],
)  # fmt: skip
def test_who_takes_all_traffic(rivals: list[Rival], winner: str, verdict: str, reason: str) -> None:
    """Version 3 is proven with a rate of 0.01: what the others are decides."""
    found = claim(Rival(3, "proven", 0.01), rivals, winner)
    assert found.verdict == verdict and reason in found.reason


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=2, max_size=4))
def test_exactly_one_proven_candidate_takes_all(rates: list[float | None]) -> None:
    """Whatever the rates are, also equal or unknown ones."""
    proven = [Rival(2 + n, "proven", rate) for n, rate in enumerate(rates)]
    verdicts = [
        claim(mine, [one for one in proven if one is not mine], "errors").verdict for mine in proven
    ]
    assert verdicts.count("take") == 1


def test_versions_get_equal_regions_unless_the_plan_says_others() -> None:
    """Three have a third each; what is left over is stable's."""
    assert [r.max_weight_bp for r in regions(together(PLAN, (7, 5, 6)))] == [3_333] * 3
    named = replace(PLAN, candidates=(Candidate(5, 2_000), Candidate(6, 500)))
    assert together(named, (6, 5)) == together(named, ()) == named
    assert [(r.version, r.offset_bp) for r in regions(named)] == [(5, 0), (6, 2_000)]
