"""95 % intervals of shares and of paired differences of shares.

Floats: these are statistics. A label counts as one independent trial.
"""

from dataclasses import dataclass
from math import sqrt

Z = 1.959963984540054
"""Half-width of 95 % in standard errors."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``."""

    low: float
    high: float


def share_interval(successes: int, trials: int) -> Interval:
    """Wilson's interval of a share: sound for small counts and near 0 and 1.

    >>> found = share_interval(350, 360)
    >>> round(found.low, 3), round(found.high, 3)
    (0.95, 0.985)
    """
    if trials <= 0:
        return Interval(0.0, 1.0)
    share, z2 = successes / trials, Z * Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def paired_loss(parent_only: int, own_only: int, trials: int) -> Interval:
    """How much of its parent's quality a variant lost, judged on the same labels.

    ``parent_only`` counts the labels that only the parent got right, ``own_only`` those that only
    the variant did. Bonett and Price's interval (J. Educ. Behav. Stat. 37, 2012): the usual
    SE = √(b + c − (b − c)²/n)/n with one more label on either side, because the usual one is
    nothing wide when few labels agree by luck.

    >>> found = paired_loss(1, 0, 360)
    >>> round(found.low, 4), round(found.high, 4)
    (-0.0066, 0.0121)
    """
    total = trials + 2
    lost, won = (parent_only + 1) / total, (own_only + 1) / total
    middle = lost - won
    half = Z * sqrt(max(0.0, lost + won - middle**2) / total)
    return Interval(max(-1.0, middle - half), min(1.0, middle + half))
