"""Where the labels of points go so that they cover neither each other nor what is drawn. Pure.

Positions around every point are tried, near ones first; each label in turn takes the one that
disturbs least, until none moves any more. The same points give the same places. Lengths are
typographic points, y grows upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot

DISTANCES = (8, 14, 22, 34, 50, 70, 95)
DIRECTIONS = (
    (1, 0), (1, 0.6), (1, -0.6), (-1, 0), (-1, 0.6), (-1, -0.6), (0, 1), (0, -1),
    (0.5, 1), (0.5, -1), (-0.5, 1), (-0.5, -1), (1, 1), (1, -1), (-1, 1), (-1, -1),
)  # fmt: skip
OUTSIDE, ON_LABEL, ON_MARKER, ON_LINE, LEADER, HIDDEN = 1000.0, 200.0, 120.0, 25.0, 40.0, 60.0
NEAR = 12.0
"""A label within this distance of its point, and of no other, needs no line to it."""
ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle by its corners."""

    left: float
    bottom: float
    right: float
    top: float

    def grown(self, by: float) -> "Box":
        """The rectangle with so much more on every side."""
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def meets(self, other: "Box") -> bool:
        """Whether the two have some area in common."""
        return (self.left < other.right and other.left < self.right
                and self.bottom < other.top and other.bottom < self.top)  # fmt: skip

    def holds(self, other: "Box") -> bool:
        """Whether the other lies within."""
        return (self.left <= other.left and other.right <= self.right
                and self.bottom <= other.bottom and other.top <= self.top)  # fmt: skip

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is nearest."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)


@dataclass(frozen=True, slots=True)
class Label:
    """A label of ``width`` by ``height`` for the point at ``x``, ``y``."""

    x: float
    y: float
    width: float
    height: float

    def at(self, direction: tuple[float, float], distance: float) -> Box:
        """Its rectangle, so far from the point in a direction."""
        across, up = direction
        middle_x = self.x + across * (distance + self.width / 2)
        middle_y = self.y + up * (distance + self.height / 2)
        return Box(middle_x - self.width / 2, middle_y - self.height / 2,
                   middle_x + self.width / 2, middle_y + self.height / 2)  # fmt: skip

    def leader(self, box: Box) -> Box:
        """The rectangle around the line from the point to its label."""
        x, y = box.nearest(self.x, self.y)
        return Box(min(x, self.x), min(y, self.y), max(x, self.x), max(y, self.y))

    def away(self, box: Box) -> float:
        """How far the point is from its label."""
        x, y = box.nearest(self.x, self.y)
        return hypot(x - self.x, y - self.y)

    def doubtful(self, box: Box, others: Sequence["Label"]) -> bool:
        """Whether a reader may take it for another point's: it needs a line to its own."""
        least = min((other.away(box) for other in others if other is not self), default=1e9)
        return self.away(box) > NEAR or least < self.away(box) + NEAR


def label_places(
    labels: Sequence[Label], frame: Box, markers: Sequence[Box], lines: Sequence[Box]
) -> list[Box]:
    """A rectangle for every label, within ``frame``.

    ``markers`` must stay free, ``lines`` should.
    """
    choices = [
        [one.at(direction, distance) for distance, direction in product(DISTANCES, DIRECTIONS)]
        for one in labels
    ]
    fixed = [
        [
            _disturbs(one, box, frame, markers, lines) + _misleads(one, box, labels) + 0.01 * n
            for n, box in enumerate(boxes)
        ]
        for one, boxes in zip(labels, choices, strict=True)
    ]
    chosen = [min(range(len(costs)), key=costs.__getitem__) for costs in fixed]
    for _ in range(ROUNDS):
        before = list(chosen)
        for n, one in enumerate(labels):
            others = [(labels[m], choices[m][chosen[m]]) for m in range(len(labels)) if m != n]
            costs = [cost + _crowds(one, box, others)
                     for cost, box in zip(fixed[n], choices[n], strict=True)]  # fmt: skip
            chosen[n] = min(range(len(costs)), key=costs.__getitem__)
        if chosen == before:
            break
    return [boxes[n] for boxes, n in zip(choices, chosen, strict=True)]


def _disturbs(
    label: Label, box: Box, frame: Box, markers: Sequence[Box], lines: Sequence[Box]
) -> float:
    """What a place costs whatever the other labels do."""
    leader = label.leader(box)
    return (
        OUTSIDE * (not frame.holds(box))
        + ON_MARKER * sum(box.meets(marker) for marker in markers)
        + LEADER * sum(leader.meets(m) for m in markers if not _around(m, label))
        + ON_LINE * sum(box.meets(line) for line in lines)
        + label.away(box)
    )


def _misleads(label: Label, box: Box, labels: Sequence[Label]) -> float:
    """What a place costs where a reader may take the label for another point's."""
    x, y = box.nearest(label.x, label.y)
    across, up, own = x - label.x, y - label.y, label.away(box)
    cost = HIDDEN * (
        abs(across) < 4 and label.doubtful(box, labels)
    )  # the line to it would lie in a bar
    for other in labels:
        if other is not label:
            apart = hypot(other.x - label.x, other.y - label.y)
            ahead = across * (other.x - label.x) + up * (other.y - label.y)
            cost += HIDDEN * (apart < 2 * NEAR and ahead > 0.3 * apart * own)
            cost += max(0.0, own + NEAR - other.away(box))
    return cost


def _crowds(label: Label, box: Box, others: Sequence[tuple[Label, Box]]) -> float:
    """What a place costs beside the other labels."""
    leader = label.leader(box)
    return sum(
        ON_LABEL * box.meets(theirs)
        + LEADER * (leader.meets(theirs) + box.meets(other.leader(theirs)))
        for other, theirs in others
    )


def _around(marker: Box, label: Label) -> bool:
    return marker.left <= label.x <= marker.right and marker.bottom <= label.y <= marker.top
