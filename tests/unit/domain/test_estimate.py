"""What a planned run is predicted to take, from windows of past ones."""

from fractions import Fraction

import pytest

from steelyard.domain.budget import BudgetState
from steelyard.domain.cost import Price
from steelyard.domain.energy import LoadModel
from steelyard.domain.estimate import (
    Draw,
    Pace,
    PastWindow,
    Spread,
    afterwards,
    budget_after,
    draw,
    paces,
    predicted,
    priced,
)
from steelyard.domain.metering import Resource
from steelyard.domain.posting import Coefficient, Valuation

SECOND = 1_000_000
PLANNED = Resource("train/planned/1", "train_worker", "generic-vcpu", 2, 1, "vcpu-hour", 0)
RATES = Valuation(
    [Price("p", "vcpu-hour", "USD", 36 * 10**9, 0, 0)],
    LoadModel(Fraction(1), Fraction(5), ("idle", "max")), Coefficient("ci", Fraction(360)),
    Coefficient("pue", Fraction(2)), None, None, 0,
)  # fmt: skip


def attempt(
    *windows: tuple[int, int | None], run: str = "r", number: int | None = 1
) -> list[PastWindow]:
    """Windows of (seconds, FLOPs) on two devices."""
    return [PastWindow(run, number, 2, s * SECOND, 10, flop) for s, flop in windows]


def test_the_start_is_told_from_the_work() -> None:
    """10 s of start and 2 s an epoch: the first window holds both, the last one the end."""
    (found,) = paces(attempt((12, 400), (2, 400), (2, 400), (1, 0)), by_flop=True)
    assert found == Pace(Fraction(100), 11 * SECOND)
    assert found.wall_us(1200, 2) == 17 * SECOND


def test_windows_without_a_report_belong_to_the_epoch_that_they_are_in() -> None:
    """A long epoch is booked in pieces; its FLOPs are in the last of them."""
    (found,) = paces(attempt((12, 400), (10, 0), (10, 400), (20, 400)), by_flop=True)
    assert found.per_device_s == 10


def test_with_one_report_everything_counts_as_work() -> None:
    """Nothing tells the start from the work, so the same run takes the same time again."""
    (found,) = paces(attempt((12, 400), (1, 0)), by_flop=True)
    assert found.overhead_us == 0
    assert found.wall_us(400, 2) == 13 * SECOND


def test_what_a_lost_attempt_did_last_is_not_taken_for_overhead() -> None:
    """Its pace counts, its end does not."""
    (found,) = paces(attempt((12, 400), (4, 400), (50, None)), by_flop=True)
    assert found == Pace(Fraction(50))


def test_rows_count_where_flops_are_unknown() -> None:
    """A network with an operation that cannot be counted can be estimated, too."""
    (found,) = paces(attempt((12, None), (2, None), (2, None)), by_flop=False)
    assert found.per_device_s == Fraction(20, 8)


def test_an_attempt_that_did_nothing_says_nothing() -> None:
    """It was cancelled before its first epoch."""
    assert paces(attempt((12, 0), (1, None)), by_flop=True) == []


def test_the_estimate_is_the_median_and_all_runs_bound_it() -> None:
    """Three past runs, one of them on a busy machine."""
    seen = [Pace(Fraction(100)), Pace(Fraction(10)), Pace(Fraction(90))]
    assert predicted(9000, 1, seen) == Spread(90 * SECOND, 100 * SECOND, 900 * SECOND)
    assert predicted(9000, 1, []) is None


def test_export_and_evaluation_are_what_the_driver_did_afterwards() -> None:
    """They have no attempt; of two runs the middle counts."""
    own = attempt((3, 1), (1, 1), number=None) + attempt((6, 1), run="s", number=None)
    assert afterwards(own + attempt((99, 1))) == Spread(4 * SECOND, 5 * SECOND, 6 * SECOND)
    assert afterwards(attempt((99, 1))) is None


def test_a_plan_is_valued_as_a_window_would_be() -> None:
    """One hour on two devices: $72, 36 kJ at full load, twice that through the building."""
    found = priced(PLANNED, 3600 * SECOND, RATES, Draw())
    m = found.measures
    assert (m.device_us, m.cost_nano, m.energy_mj) == (7200 * SECOND, 72 * 10**9, 36 * 10**6)
    assert m.carbon_ug == 72 * 10**6 * 360 // 3600
    assert found.cited == {
        "cost_nano": ("p",),
        "energy_mj": ("idle", "max"),
        "carbon_ug": ("ci", "idle", "max", "pue"),
    }
    assert (found.tier, m.embodied_ug) == ("modelled_load", None)


@pytest.mark.parametrize(
    ("windows", "expected_mj"),
    [
        ([PastWindow("r", 1, 2, SECOND, 1, 1, cpu_us=SECOND)], 6_000),  # half of two devices' time
        ([PastWindow("r", 1, 2, SECOND, 1, 1, None, 8_000, "counter_cpu")], 8_000),
        ([PastWindow("r", 1, 2, SECOND, 1, 1)], 10_000),  # nothing known: full load
    ],
)
def test_energy_follows_how_hard_past_runs_worked(
    windows: list[PastWindow], expected_mj: int
) -> None:
    """A meter's watts win, then the part of CPU time, then full load as an upper bound."""
    assert priced(PLANNED, SECOND, RATES, draw(windows)).measures.energy_mj == expected_mj


def test_what_nobody_declared_stays_unknown() -> None:
    """No price, no watts, no grid: only the time is known."""
    bare = Valuation([], None, None, None, None, None, 0)
    m = priced(PLANNED, SECOND, bare, Draw()).measures
    assert (m.device_us, m.cost_nano, m.energy_mj, m.carbon_ug) == (2 * SECOND, None, None, None)


@pytest.mark.parametrize(
    ("spent", "expected", "amount", "state"),
    [
        (0, None, 79, "ok"),
        (0, None, 80, "warn"),
        (90, None, 10, "warn"),
        (90, None, 11, "exceeded"),
        (0, 95, 6, "will_exceed"),
    ],
)
def test_a_budget_says_how_it_would_stand_after_the_run(
    spent: int, expected: int | None, amount: int, state: BudgetState
) -> None:
    """A limit of 100 that warns from 80 on."""
    found = budget_after(100, Fraction(4, 5), spent, expected, amount)
    assert found is not None and found.state == state


def test_a_budget_says_nothing_about_what_is_unknown() -> None:
    """Unknown is not 0."""
    assert budget_after(100, Fraction(4, 5), 0, None, None) is None
    assert budget_after(100, Fraction(4, 5), None, None, 1) is None
