"""Anytime-valid evidence that a canary is worse than stable, or not worse than a margin.

Given the number of events in both arms of an interval, the canary's share of them is binomial;
a mixture of likelihood ratios against the null is a martingale, so by Ville's inequality the
chance of *ever* crossing 1/α under the null is at most α, whenever one looks and whatever the
weights were. Rows of intervals are kept; nothing is reset at a step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Requests and events of both arms within one interval of one weight table."""

    n_canary: int
    x_canary: int
    n_stable: int
    x_stable: int


def _grid(low: float, high: float, count: int = 60) -> tuple[float, ...]:
    start, stop = math.log(low), math.log(high)
    return tuple(math.exp(start + (stop - start) * i / (count - 1)) for i in range(count))


def _log_mean_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values) / len(values))


def _theta(w: float, ratio: float) -> float:
    return w * ratio / (w * ratio + 1 - w)


def ratio_log_likelihood(rows: Sequence[Interval], ratio: float, null: float) -> float:
    """Ln of the likelihood of a true event ratio against a null one, over comparable intervals."""
    total = 0.0
    for row in rows:
        if not row.n_canary or not row.n_stable:
            continue
        w = row.n_canary / (row.n_canary + row.n_stable)
        t, n = _theta(w, ratio), _theta(w, null)
        total += row.x_canary * math.log(t / n) + row.x_stable * math.log((1 - t) / (1 - n))
    return total


def ln_e_worse(rows: Sequence[Interval], tolerance: float = 1.0) -> float:
    """Ln of the evidence that the canary's event rate is above ``tolerance`` × stable's.

    >>> rows = [Interval(300, 4, 5700, 27), Interval(600, 9, 5400, 25)]
    >>> round(ln_e_worse(rows[:1]), 6), round(ln_e_worse(rows), 6)
    (0.329154, 3.52793)
    """
    return _log_mean_exp(
        [ratio_log_likelihood(rows, r * tolerance, tolerance) for r in _grid(1.05, 50.0)]
    )


def ln_e_not_worse(rows: Sequence[Interval], margin: float) -> float:
    """Ln of the evidence that the canary's event rate is below ``margin`` × stable's.

    >>> round(ln_e_not_worse([Interval(300, 4, 5700, 27)], 2.0), 6)
    -1.787191
    """
    grid = _grid(0.1, 0.95 * margin)
    return _log_mean_exp([ratio_log_likelihood(rows, r, margin) for r in grid])


def ln_e_above_limit(n: int, x: int, limit: float) -> float:
    """Ln of the evidence that an event probability is above ``limit``.

    >>> round(ln_e_above_limit(1000, 10, 0.02), 6)
    -4.049782
    """
    grid = _grid(1.05 * limit, min(0.95, 50 * limit))
    return _log_mean_exp([_limit_log_likelihood(n, x, p, limit) for p in grid])


def ln_e_below_limit(n: int, x: int, limit: float) -> float:
    """Ln of the evidence that an event probability is below ``limit``.

    >>> round(ln_e_below_limit(1000, 10, 0.02), 6)
    1.352249
    """
    grid = [limit * g for g in _grid(0.01, 0.95)]
    return _log_mean_exp([_limit_log_likelihood(n, x, p, limit) for p in grid])


def _limit_log_likelihood(n: int, x: int, p: float, null: float) -> float:
    return x * math.log(p / null) + (n - x) * math.log((1 - p) / (1 - null))
