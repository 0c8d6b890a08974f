"""The chart of cumulative cost and its break-even, in numbers and in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.domain import figures
from steelyard.domain.break_even import BreakEven
from steelyard.services.accounts import ModelStatement, Point

MOST_POINTS = 200
"""More are not seen in a chart and not read in a table; the file has them all."""


@dataclass(frozen=True, slots=True)
class BreakEvenWords:
    """The answer in a few words (``short``) and in a sentence."""

    short: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: points, the level of training, and the crossing when there is one.

    ``points`` are at most 200 of the series, the first, the last and the crossing among them.
    ``level_nano`` is what training cost altogether.
    """

    points: tuple[Point, ...]
    level_nano: int
    crossing: Point | None
    words: BreakEvenWords

    @property
    def drawing(self) -> dict[str, Any]:
        """Columns for the canvas: seconds and US dollars, as floats because it only draws them."""
        met = self.crossing
        return {
            "at": [p.at_us / 1e6 for p in self.points],
            "training": [p.training_nano / 1e9 for p in self.points],
            "inference": [p.inference_nano / 1e9 for p in self.points],
            "level": self.level_nano / 1e9,
            "crossing": {"at": met.at_us / 1e6, "usd": met.training_nano / 1e9} if met else None,
        }


def chart(statement: ModelStatement) -> Chart:
    """The chart of a model's statement."""
    met = crossing(statement.series)
    if statement.first_day is not None and met == next(iter(statement.series), None):
        met = None  # it happened before the days that are shown
    return Chart(
        points=thinned(statement.series, met),
        level_nano=statement.series[-1].training_nano if statement.series else 0,
        crossing=met,
        words=in_words(statement.break_even["allocation"], statement.requests_so_far),
    )


def crossing(series: Sequence[Point]) -> Point | None:
    """From where on inference has cost at least as much as training, to this day.

    A later training run may put it back: then the next crossing counts, or none. Training that
    has no cost, as that of a version made elsewhere, is nothing that could be overtaken.
    """
    found: Point | None = None
    for point in series:
        ahead = 0 < point.training_nano <= point.inference_nano
        found = (found or point) if ahead else None
    return found


def thinned(series: Sequence[Point], keep: Point | None = None) -> tuple[Point, ...]:
    """At most ``MOST_POINTS`` points, evenly taken, with the ends and ``keep``."""
    if len(series) <= MOST_POINTS:
        return tuple(series)
    last = len(series) - 1
    steps = MOST_POINTS - 2
    chosen = {series[round(i * last / steps)] for i in range(steps + 1)}
    return tuple(sorted(chosen | ({keep} if keep else set()), key=lambda p: p.at_us))


def in_words(found: BreakEven, requests: int) -> BreakEvenWords:
    """Break-even for people: reached, after about how many requests, or why nobody can say."""
    if found.requests is None:
        why = (
            "no inference was charged yet"
            if not requests
            else "training or inference has no cost yet"
        )
        return BreakEvenWords(
            "unknown", f"Break-even is unknown: {why}, so there is nothing to compare."
        )
    about = f"about {figures.count(found.requests)} requests"
    if found.crossed:
        return BreakEvenWords(
            f"reached after {about}",
            f"Break-even reached: inference has cost more than training since {about}; "
            f"{figures.count(requests)} were served.",
        )
    days = "" if found.days is None else f", {_days(found.days)} at the measured rate"
    return BreakEvenWords(
        f"after {about}",
        f"Break-even not reached: inference will have cost as much as training after {about}"
        f"{days}. Served so far: {figures.count(requests)}.",
    )


def _days(days: float) -> str:
    if days < 1 / 24:
        return f"about {max(1, round(days * 1440))} minutes of traffic"
    if days < 2:
        return f"about {round(days * 24)} hours of traffic"
    return f"about {round(days):,} days of traffic"
