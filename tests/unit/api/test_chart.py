import pytest

from steelyard.api.chart import MOST_POINTS, crossing, in_words, thinned
from steelyard.domain.break_even import BreakEven
from steelyard.services.accounts import Point


def _series(*pairs: tuple[int, int]) -> tuple[Point, ...]:
    return tuple(Point(n, training, inference) for n, (training, inference) in enumerate(pairs))


@pytest.mark.parametrize(
    ("pairs", "at"),
    [
        ((), None),
        (((0, 0),), None),
        (((0, 5), (0, 9)), None),
        (((100, 0), (100, 99)), None),
        (((100, 0), (100, 100), (100, 200)), 1),
        (((100, 100), (300, 150), (300, 310)), 2),
        (((100, 100), (300, 150)), None),
    ],
)
def test_where_inference_overtakes_training(
    pairs: tuple[tuple[int, int], ...], at: int | None
) -> None:
    """The marker stands where inference reached training for good; training again moves it."""
    found = crossing(_series(*pairs))
    assert (found.at_us if found else None) == at


def test_a_long_history_is_thinned_but_keeps_its_ends_and_the_crossing() -> None:
    """A chart of a year is drawn from 200 points, and its marker is still one of them."""
    series = _series(*((5_000, n) for n in range(10_000)))
    met = crossing(series)
    assert met is not None
    kept = thinned(series, met)
    assert len(kept) <= MOST_POINTS
    assert (kept[0], kept[-1]) == (series[0], series[-1])
    assert met in kept
    assert list(kept) == sorted(kept, key=lambda p: p.at_us)


def test_a_short_history_is_shown_whole() -> None:
    """Nothing is left out that would fit."""
    series = _series(*((1, n) for n in range(MOST_POINTS)))
    assert thinned(series) == series


def test_break_even_ahead_is_told_in_requests_and_time() -> None:
    """Not reached: the reader learns after about how many requests, and how long that takes."""
    words = in_words(BreakEven(1_600, 0.009, crossed=False), 60)
    assert words.short == "after about 1,600 requests"
    assert "not reached" in words.sentence
    assert "about 13 minutes of traffic" in words.sentence
    assert "about 30 days" in in_words(BreakEven(9, 30.2, crossed=False), 1).sentence
    assert "about 30 hours" in in_words(BreakEven(9, 1.25, crossed=False), 1).sentence


def test_break_even_behind_is_told_as_reached() -> None:
    """Reached: the reader learns at about which request."""
    words = in_words(BreakEven(1_400, 0.1, crossed=True), 2_400)
    assert words.short == "reached after about 1,400 requests"
    assert "2,400 were served" in words.sentence


def test_break_even_without_inference_is_unknown() -> None:
    """Without a cost per request nothing is promised, and the reason is told."""
    words = in_words(BreakEven(None, None, crossed=False), 0)
    assert words.short == "unknown"
    assert "no inference was charged yet" in words.sentence
    assert "no cost yet" in in_words(BreakEven(None, None, crossed=False), 5).sentence
