from dataclasses import replace
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.evidence import Evidence, Figures, Speed
from steelyard.domain.pareto import (
    AXES,
    Place,
    Point,
    common,
    dominates,
    measured,
    placed,
    told_apart,
)

FIGURES = Figures(
    speeds=(Speed(1, 0.2, 0.3, 0.4, 0.25), Speed(32, 2.0, 3.0, 4.0, 0.05)), energy_mj=1.5
)
EVIDENCE = Evidence(
    size_bytes=350_000, accuracy=0.97, examples=360, latency_ms_p50=0.2, latency_ms_p95=0.3,
    hardware={"provider": "CPUExecutionProvider"}, own=FIGURES, parent_size_bytes=1_240_000,
    parent_latency_ms_p50=0.6, parent_latency_ms_p95=0.9,
)  # fmt: skip


def _point(version: int, quality: float | None, cost: int | None, apart: str = "") -> Point:
    return Point(version, f"kind{version}", None, quality,
                 None if cost is None else Fraction(cost), apart=apart)  # fmt: skip


def _places(*points: Point) -> dict[int, Place]:
    return {one.point.version: one.place for one in placed(points)}


shares = st.integers(0, 6).map(lambda n: n / 6)
"""Few values, so that ties are common."""


@st.composite
def sheets(draw: st.DrawFn) -> list[Point]:
    """One to ten known, comparable points."""
    many = draw(st.lists(st.tuples(shares, st.integers(1, 6)), min_size=1, max_size=10))
    return [_point(n, quality, cost) for n, (quality, cost) in enumerate(many, 1)]


def _front(points: list[Point]) -> set[int]:
    return {one.point.version for one in placed(points) if one.place == "front"}


@given(sheets())
def test_the_front_is_never_empty_and_nobody_on_it_dominates_another(points: list[Point]) -> None:
    """There is always a best trade, and no two of them can be ordered."""
    front = [p for p in points if p.version in _front(points)]
    assert front
    assert not any(dominates(one, other) for one in front for other in front)


@given(sheets())
def test_what_is_off_the_front_is_dominated_by_somebody_on_it(points: list[Point]) -> None:
    """So the table can always say by whom."""
    front = _front(points)
    for one in placed(points):
        assert (one.place == "dominated") == bool(one.by)
        assert set(one.by) <= front


@given(sheets(), st.randoms())
def test_the_order_of_versions_does_not_matter(points: list[Point], random: Random) -> None:
    """The same versions make the same sheet."""
    mixed = list(points)
    random.shuffle(mixed)
    assert placed(mixed) == placed(points)


@given(sheets(), shares, st.integers(1, 6))
def test_one_more_dominated_version_changes_nothing(
    points: list[Point], quality: float, cost: int
) -> None:
    """A variant that nobody wants moves nobody else."""
    more = _point(99, quality, cost)
    if any(dominates(one, more) for one in points):
        assert _front([*points, more]) == _front(points)


def test_versions_equal_on_both_axes_both_stay() -> None:
    """Neither is better; equal on one axis, the better on the other wins."""
    assert _places(_point(1, 0.9, 5), _point(2, 0.9, 5)) == {1: "front", 2: "front"}
    assert _places(_point(1, 0.9, 5), _point(2, 0.9, 4)) == {1: "dominated", 2: "front"}
    assert _places(_point(1, 0.9, 5), _point(2, 0.8, 5)) == {1: "front", 2: "dominated"}


def test_what_is_not_known_is_placed_apart_and_never_at_zero() -> None:
    """An unmeasured cost is not the cheapest, an unmeasured quality not the worst."""
    found = _places(_point(1, 0.9, 5), _point(2, 0.99, None), _point(3, None, 1))
    assert found == {1: "front", 2: "unknown", 3: "unknown"}
    assert placed([_point(2, 0.99, None), _point(1, 0.9, 5)])[-1].point.version == 2


def test_what_was_measured_elsewhere_neither_dominates_nor_is_dominated() -> None:
    """A faster machine does not make a better variant."""
    found = _places(_point(1, 0.9, 5), _point(2, 0.99, 1, apart="measured on other hardware"))
    assert found == {1: "front", 2: "apart"}


def test_quality_is_told_apart_only_where_intervals_do_not_meet() -> None:
    """An unknown interval tells nothing apart."""
    one = replace(_point(1, 0.9, 1), low=0.88, high=0.92)
    assert not told_apart(one, replace(_point(2, 0.91, 1), low=0.9, high=0.93))
    assert told_apart(one, replace(_point(2, 0.95, 1), low=0.93, high=0.96))
    assert not told_apart(one, _point(2, 0.5, 1))


@pytest.mark.parametrize(
    ("axis", "own", "parent"),
    [
        ("latency", Fraction(3, 10), Fraction(9, 10)),
        ("latency-p50", Fraction(1, 5), Fraction(3, 5)),
        ("size", Fraction(350_000), Fraction(1_240_000)),
        ("energy", Fraction(3, 2), None),
        ("cpu", Fraction(1, 4), None),
        ("cost", Fraction(1000 * 72_000_000, 4 * 3_600_000), None),
    ],
)
def test_figures_are_taken_exactly_as_recorded(
    axis: str, own: Fraction, parent: Fraction | None
) -> None:
    """At batch 1; 1,000 inferences of 0.25 ms of processor time at 0.072 dollars an hour."""
    assert measured(AXES[axis], EVIDENCE, "own", 72_000_000) == own
    assert measured(AXES[axis], EVIDENCE, "parent", 72_000_000) == parent


def test_money_is_unknown_without_a_price_and_follows_the_call_on_an_accelerator() -> None:
    """A GPU is paid for as long as the call takes, whatever the processor did meanwhile."""
    assert measured(AXES["cost"], EVIDENCE) is None
    gpu = replace(EVIDENCE, hardware={"provider": "CUDAExecutionProvider"})
    assert measured(AXES["cost"], gpu, "own", 3_600_000) == 200


def test_the_compared_hardware_is_this_one_else_that_of_most_records() -> None:
    """So that a table made elsewhere still compares like with like."""
    assert common(["gpu", "gpu", "here"], "here") == "here"
    assert common(["gpu", "gpu", "laptop"], "here") == "gpu"
    assert common([], "here") is None
