from steelyard_serving.bookkeeping import LONGEST_REST_S, RESTS_FOR_S, Rests


class Day:
    """A clock that goes on with work and with sleep."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s = 0.0

    def sleep(self, seconds: float) -> None:
        """Rest for so long."""
        self.now_s += seconds
        self.slept_s += seconds


def test_a_rest_is_as_long_as_the_work_before_it() -> None:
    """Not longer than a tenth of a second, whatever the work was."""
    day = Day()
    rest = Rests(lambda: day.now_s, day.sleep)
    for worked_s, rested_s in ((0.02, 0.02), (0.05, 0.05), (3.0, LONGEST_REST_S)):
        before_s = day.slept_s
        day.now_s += worked_s
        rest()
        assert round(day.slept_s - before_s, 6) == rested_s


def test_books_that_are_far_behind_are_kept_without_rests() -> None:
    """Half of the first half minute, and nothing after it."""
    day = Day()
    rest = Rests(lambda: day.now_s, day.sleep)
    for _ in range(5_000):
        day.now_s += 0.02
        rest()
    assert round(day.slept_s) == RESTS_FOR_S / 2
    assert round(day.now_s - 100.0) == round(5_000 * 0.02 + RESTS_FOR_S / 2)
