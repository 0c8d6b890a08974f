"""Which variants are worth having: quality against one cost, and who dominates whom. Pure.

A version is dominated when another is at least as good on both axes and better on one. Of two
that are equal on both, both stay. What is not known is placed apart, never at 0; what was
measured on other hardware or other rows says nothing beside the rest, and is placed apart too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, TypeVar

from steelyard.domain.evidence import Evidence
from steelyard.domain.request_cost import Side, device_ms, row_nano, single

Place = Literal["front", "dominated", "apart", "unknown"]
AxisName = Literal["latency", "latency-p50", "size", "energy", "cpu", "cost"]
PER = 1_000


@dataclass(frozen=True, slots=True)
class Axis:
    """A cost to be kept low: what it is, in which unit, and whether hardware decides it."""

    name: AxisName
    title: str
    unit: str
    on_hardware: bool = True


AXES: Mapping[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("latency", "Latency of one row, p95", "ms"),
        Axis("latency-p50", "Latency of one row, p50", "ms"),
        Axis("size", "File size", "bytes", on_hardware=False),
        Axis("energy", "Energy of one inference", "mJ"),
        Axis("cpu", "Processor time of one inference", "ms"),
        Axis("cost", "Cost of 1,000 inferences", "nUSD"),
    )
}


@dataclass(frozen=True, slots=True)
class Point:
    """A version on the plane. ``quality`` is a share of the labels, ``cost`` in the axis's unit.

    ``low`` and ``high`` are quality's 95 % interval. ``of_parent`` is the cost as a multiple of
    the parent's, both measured in one run. ``apart`` says why it cannot be compared with the
    others; empty: it can. ``missing`` says why there is no figure.
    """

    version: int
    variant: str
    parent: int | None
    quality: float | None
    cost: Fraction | None
    low: float | None = None
    high: float | None = None
    of_parent: Fraction | None = None
    apart: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A point and its place; ``by`` are the versions of the front that dominate it."""

    point: Point
    place: Place
    by: tuple[int, ...] = ()


def measured(
    axis: Axis, evidence: Evidence, side: Side = "own", price_nano: int | None = None
) -> Fraction | None:
    """What a record says of one side on an axis, exactly as recorded; None: not known.

    ``price_nano`` is nano-USD of a device-hour.
    """
    own = side == "own"
    figures = evidence.own if own else evidence.parent
    speed = single(figures)
    match axis.name:
        case "latency":
            found = evidence.latency_ms_p95 if own else evidence.parent_latency_ms_p95
        case "latency-p50":
            found = evidence.latency_ms_p50 if own else evidence.parent_latency_ms_p50
        case "size":
            found = evidence.size_bytes if own else evidence.parent_size_bytes
        case "energy":
            found = figures.energy_mj if figures else None
        case "cpu":
            found = speed.cpu_ms_per_row if speed else None
        case "cost":
            one = row_nano(device_ms(evidence, side), price_nano)
            return None if one is None else PER * one
    return None if found is None else Fraction(str(found))


def placed(points: Sequence[Point]) -> tuple[Placed, ...]:
    """Every point in its place, the cheapest first, those without a figure last.

    >>> good, bad = Point(1, "fp32", None, 0.9, Fraction(2)), Point(2, "x", 1, 0.8, Fraction(3))
    >>> [(one.point.version, one.place, one.by) for one in placed([bad, good])]
    [(1, 'front', ()), (2, 'dominated', (1,))]
    """
    known = [p for p in points if p.quality is not None and p.cost is not None]
    rivals = [p for p in known if not p.apart]
    front = [p for p in rivals if not any(dominates(other, p) for other in rivals)]
    best = {p.version for p in front}

    def place(point: Point) -> Placed:
        if point.quality is None or point.cost is None:
            return Placed(point, "unknown")
        if point.apart:
            return Placed(point, "apart")
        if point.version in best:
            return Placed(point, "front")
        by = sorted(p.version for p in front if dominates(p, point))
        return Placed(point, "dominated", tuple(by))

    def order(point: Point) -> tuple[bool, Fraction, int]:
        return point.cost is None, point.cost or Fraction(0), point.version

    return tuple(place(point) for point in sorted(points, key=order))


def beside_parents(points: Sequence[Point]) -> tuple[Point, ...]:
    """Costs as multiples of the parent's own, where both were measured in one run.

    Figures of different runs differ by what else the machine did; ratios of one run hardly do.

    >>> fp32, int8 = Point(1, "fp32", None, 0.9, Fraction(2)), Point(2, "x", 1, 0.9, Fraction(4))
    >>> [int(p.cost) for p in beside_parents([fp32, replace(int8, of_parent=Fraction(1, 2))])]
    [2, 1]
    """
    costs = {p.version: p.cost for p in points if not p.apart}

    def scaled(point: Point) -> Point:
        parent = None if point.parent is None or point.apart else costs.get(point.parent)
        if parent is None or point.of_parent is None:
            return point
        return replace(point, cost=parent * point.of_parent)

    return tuple(map(scaled, points))


def dominates(one: Point, other: Point) -> bool:
    """Whether ``one`` is at least as good on both axes, and better on one; known figures only."""
    if one.quality is None or other.quality is None or one.cost is None or other.cost is None:
        return False
    as_good = one.quality >= other.quality and one.cost <= other.cost
    return as_good and (one.quality > other.quality or one.cost < other.cost)


def told_apart(one: Point, other: Point) -> bool:
    """Whether the quality of two versions differs for certain: their intervals do not meet."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low > other.high or other.low > one.high


Key = TypeVar("Key")


def common(keys: Sequence[Key], preferred: Key | None = None) -> Key | None:
    """What figures have to share to be compared: the preferred, else what most of them have.

    Of equally many, the one seen last. None without any.

    >>> common(["a", "b", "b"]), common(["a", "b", "b"], "a"), common(["a", "b"], "z")
    ('b', 'a', 'b')
    """
    if preferred in keys:
        return preferred
    counted = Counter(reversed(keys))
    return max(counted, key=lambda key: counted[key], default=None)
