"""How often a version on probation is taken back by graded pairs: our own rule, many times."""

import math

import numpy as np
import pytest

from steelyard.domain.analysis import Metric, ln_e_bad
from steelyard.domain.e_process import Counts, ln_e_worse_so_far

RUNS, LOOKS, PAIRS, SEED = 20_000, 10, 200, 23
AT = math.log(20)


def _fallen(only_canary: float, only_stable: float, tolerance: float) -> float:
    """Share of probations that are ever ended, looked at after each of ten intervals."""
    random = np.random.default_rng(SEED)
    chances = (only_canary, only_stable, 1 - only_canary - only_stable)
    drawn = random.multinomial(PAIRS, chances, (RUNS, LOOKS)).astype(float)
    n, metric = np.full(LOOKS, float(PAIRS)), Metric("paired", tolerance=tolerance)
    fallen = np.zeros(RUNS, bool)
    for look in range(1, LOOKS + 1):
        # Intervals of the same weight are added up, which is the same.
        seen = drawn[:, :look].sum(1)
        counts = Counts(n[:1], seen[:, :1], n[:1], seen[:, 1:2])
        fallen |= ln_e_bad(metric, counts) >= AT
    return float(fallen.mean())


@pytest.mark.parametrize(
    ("only_canary", "only_stable", "tolerance"),
    [(0.03, 0.03, 1.0), (0.3, 0.3, 1.0), (0.002, 0.002, 1.0), (0.02, 0.03, 1.0),
     (0.03, 0.02, 1.5)],
)  # fmt: skip
def test_an_equal_version_is_hardly_ever_taken_back(
    only_canary: float, only_stable: float, tolerance: float
) -> None:
    """At most one in twenty, also with as many mistakes as are borne; 20,000 probations."""
    assert _fallen(only_canary, only_stable, tolerance) <= 0.05


def test_a_bad_version_is_found_by_its_pairs() -> None:
    """Three times as often alone in the wrong, in 3 of 100 pairs: nearly always."""
    assert _fallen(0.03, 0.01, 1.0) >= 0.9


def test_users_who_quarrel_with_one_version_are_counted_once() -> None:
    """Each of 40 odd users always breaks the same one of two equal versions, by a fair coin.

    Counting their requests takes equal versions back far too often; their first pairs do not.
    """
    random = np.random.default_rng(SEED)
    against = random.random((4_000, 40)) < 0.5
    asked = random.integers(0, LOOKS, (4_000, 40))  # when each of them comes first
    first = np.stack([(asked == look) & against for look in range(LOOKS)], -1).sum(1, float)
    other = np.stack([(asked == look) & ~against for look in range(LOOKS)], -1).sum(1, float)
    n = np.full(LOOKS, float(PAIRS))

    def ever(times: int) -> float:
        known = Counts(n, times * first, n, times * other)
        return float((ln_e_worse_so_far(known) >= AT).any(-1).mean())

    assert ever(1) <= 0.05
    assert ever(10) > 0.2
