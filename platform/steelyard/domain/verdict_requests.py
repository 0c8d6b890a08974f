"""About how many requests it takes until a verdict, before there are any (ROLLOUT, rehearsal)."""

import math


def requests_to_rollback(share: float, ratio: float, error_share: float, alpha: float) -> int:
    """Requests of both arms until a canary ``ratio`` times as bad is found out, about.

    N ≈ (ln(1/α) + 1.5) ÷ (KL · r): what each request adds in the mean, with an allowance for the
    mixture; 22 to 51 % above the median of simulated rollouts (ROLLOUT, rehearsal).

    >>> requests_to_rollback(0.05, 3.0, 0.005, 0.05)
    14999
    """
    theta = share * ratio / (share * ratio + 1 - share)
    each = theta * math.log(theta / share) + (1 - theta) * math.log((1 - theta) / (1 - share))
    events = error_share * (share * ratio + 1 - share)
    return math.ceil((math.log(1 / alpha) + 1.5) / (each * events))


def requests_to_promotion(share: float, margin: float, error_share: float, alpha: float) -> int:
    """Requests of both arms until a canary as good as stable is proven below the margin, about.

    The same rule with the roles exchanged: the null is ``margin``, the truth 1.

    >>> requests_to_promotion(0.05, 2.0, 0.005, 0.05), requests_to_promotion(0.5, 2.0, 0.005, 0.05)
    (63622, 15268)
    """
    theta = share * margin / (share * margin + 1 - share)
    each = share * math.log(share / theta) + (1 - share) * math.log((1 - share) / (1 - theta))
    return math.ceil((math.log(1 / alpha) + 1.5) / (each * error_share))


def requests_to_floor(floor: float, error_share: float, alpha: float) -> int:
    """Canary requests until it is proven to stay within the floor, about.

    The evidence is half the floor's, so that must be twice as strong; the allowance for the
    mixture is that of 4.24 ÷ floor requests without an event.

    >>> requests_to_floor(0.01, 0.0, 0.05)
    422
    """
    within = (1 - error_share) * math.log((1 - error_share) / (1 - floor))
    if error_share:
        within += error_share * math.log(error_share / floor)
    return math.ceil((math.log(2 / alpha) + 0.55) / within)
