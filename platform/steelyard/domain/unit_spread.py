"""How sure a ratio of event rates is when the requests of one unit (a user) are alike.

Counting units instead of requests keeps one failing user from counting a thousand times, but says
only how many units were newly hit. So a promotion also asks that the ratio of the rates themselves
is below the margin, with a standard error over units.
"""

import math
from dataclasses import dataclass

QUANTILE_95 = 1.645
NO_END = 1e9
"""A ratio above every margin; infinity is no number in JSON."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Sums over the units of one arm: ``n`` requests and ``x`` events of a unit."""

    n: int = 0
    x: int = 0
    xx: int = 0
    xn: int = 0
    nn: int = 0


def upper_ratio(canary: Spread, stable: Spread) -> float:
    """The upper 95 % end of (canary's event rate ÷ stable's), delta method over units.

    With no event in the canary it is 0, with none in stable alone it has no end.

    >>> upper_ratio(Spread(100, 0, 0, 0, 100), Spread(100, 5, 5, 5, 100))
    0.0
    >>> one = Spread(1000, 10, 10, 10, 1000)
    >>> round(upper_ratio(one, one), 2)
    2.08
    """
    if canary.x == 0:
        return 0.0
    if stable.x == 0 or stable.n == 0:
        return NO_END
    rate, base = canary.x / canary.n, stable.x / stable.n
    variance = _relative_variance(canary) + _relative_variance(stable)
    return math.exp(math.log(rate / base) + QUANTILE_95 * math.sqrt(variance))


def _relative_variance(arm: Spread) -> float:
    """Σ_units (x − R·n)² ÷ (Σx)², where R is the arm's rate."""
    rate = arm.x / arm.n
    return max(0.0, arm.xx - 2 * rate * arm.xn + rate * rate * arm.nn) / arm.x**2
