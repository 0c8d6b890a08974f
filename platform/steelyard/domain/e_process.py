"""Anytime-valid evidence that a canary is worse than stable, or not worse than a margin.

Given the number of events in both arms of an interval, the canary's share of them is binomial;
a mixture of likelihood ratios against the null is a martingale, so by Ville's inequality the
chance of *ever* crossing 1/α under the null is at most α, whenever one looks and whatever the
weights were. Rows of intervals are kept; nothing is reset at a step.

Everything is of arrays, so that thousands of imagined rollouts are judged by the code that judges
a real one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Requests and events of both arms within one interval of one weight table."""

    n_canary: int
    x_canary: int
    n_stable: int
    x_stable: int


class Counts(NamedTuple):
    """The intervals of one rollout as columns; those of events may have axes in front, a run each.

    ``n_canary`` and ``n_stable`` have the shape (intervals,), ``x_canary`` and ``x_stable``
    (…, intervals).
    """

    n_canary: Array
    x_canary: Array
    n_stable: Array
    x_stable: Array

    @classmethod
    def of(cls, rows: Sequence[Interval]) -> Self:
        """The columns of rows."""
        table = [(r.n_canary, r.x_canary, r.n_stable, r.x_stable) for r in rows]
        return cls(*np.array(table, np.float64).reshape(-1, 4).T)

    def until(self, intervals: int) -> Self:
        """The first intervals."""
        return type(self)(*(column[..., :intervals] for column in self))


def ln_e_worse(counts: Counts, tolerance: float = 1.0) -> Array:
    """Ln of the evidence that the canary's event rate is above ``tolerance`` × stable's.

    >>> rows = [Interval(300, 4, 5700, 27), Interval(600, 9, 5400, 25)]
    >>> round(float(ln_e_worse(Counts.of(rows))), 6)
    3.52793
    """
    return _ln_e_ratio(counts, _grid(1.05, 50.0) * tolerance, tolerance)


def ln_e_not_worse(counts: Counts, margin: float) -> Array:
    """Ln of the evidence that the canary's event rate is below ``margin`` × stable's.

    >>> round(float(ln_e_not_worse(Counts.of([Interval(300, 4, 5700, 27)]), 2.0)), 6)
    -1.787191
    """
    return _ln_e_ratio(counts, _grid(0.1, 0.95 * margin), margin)


def ln_e_above_limit(n: float | Array, x: float | Array, limit: float) -> Array:
    """Ln of the evidence that an event probability is above ``limit``.

    >>> round(float(ln_e_above_limit(1000, 10, 0.02)), 6)
    -4.049782
    """
    return _ln_e_limit(n, x, _grid(1.05 * limit, min(0.95, 50 * limit)), limit)


def ln_e_below_limit(n: float | Array, x: float | Array, limit: float) -> Array:
    """Ln of the evidence that an event probability is below ``limit``.

    >>> round(float(ln_e_below_limit(1000, 10, 0.02)), 6)
    1.352249
    """
    return _ln_e_limit(n, x, limit * _grid(0.01, 0.95), limit)


def ln_mean(first: Array, second: Array) -> Array:
    """Ln of the mean of two e-values, which is one again."""
    return np.logaddexp(first, second) - math.log(2)


def ln_e_worse_so_far(counts: Counts, tolerance: float = 1.0) -> Array:
    """The same after every interval; the last axis is that of the intervals."""
    return _ln_e_ratio_so_far(counts, _grid(1.05, 50.0) * tolerance, tolerance)


def ln_e_not_worse_so_far(counts: Counts, margin: float) -> Array:
    """The evidence against the margin, after every interval."""
    return _ln_e_ratio_so_far(counts, _grid(0.1, 0.95 * margin), margin)


def _ln_e_ratio(counts: Counts, ratios: Array, null: float) -> Array:
    """The mixture over true event ratios against a null one."""
    canary, stable = _log_ratios(counts, ratios, null)
    return _log_mean_exp(counts.x_canary @ canary + counts.x_stable @ stable)


def _ln_e_ratio_so_far(counts: Counts, ratios: Array, null: float) -> Array:
    canary, stable = _log_ratios(counts, ratios, null)
    steps = counts.x_canary[..., None] * canary + counts.x_stable[..., None] * stable
    return _log_mean_exp(steps.cumsum(-2))


def _log_ratios(counts: Counts, ratios: Array, null: float) -> tuple[Array, Array]:
    """What an event in either arm says of each ratio; one-armed intervals say nothing."""
    n_canary, n_stable = counts.n_canary, counts.n_stable
    both = (n_canary > 0) & (n_stable > 0)
    share = np.where(both, n_canary, 1.0) / np.where(both, n_canary + n_stable, 2.0)
    alternative, theta = _theta(share[:, None], ratios), _theta(share[:, None], null)
    canary = np.where(both[:, None], np.log(alternative / theta), 0.0)
    stable = np.where(both[:, None], np.log((1 - alternative) / (1 - theta)), 0.0)
    return canary, stable


def _ln_e_limit(n: float | Array, x: float | Array, shares: Array, limit: float) -> Array:
    events, others = np.asarray(x, np.float64), np.asarray(n, np.float64) - x
    hit, miss = np.log(shares / limit), np.log((1 - shares) / (1 - limit))
    return _log_mean_exp(events[..., None] * hit + others[..., None] * miss)


def _theta(share: Array, ratio: float | Array) -> Array:
    """The canary's expected share of all events, given its share of the requests."""
    return share * ratio / (share * ratio + 1 - share)


def _grid(low: float, high: float, count: int = 60) -> Array:
    return np.exp(np.linspace(math.log(low), math.log(high), count))


def _log_mean_exp(values: Array) -> Array:
    top = values.max(-1)
    mean: Array = top + np.log(np.exp(values - top[..., None]).mean(-1))
    return mean
