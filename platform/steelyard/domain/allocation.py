"""Splitting an amount so that the parts make the whole, to the last unit."""

from collections.abc import Mapping
from fractions import Fraction


def largest_remainder(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split ``total`` by ``weights``; the parts sum to ``total`` exactly.

    Every part gets its floor; the units left over go to the largest remainders, ties by key.

    >>> largest_remainder(100_000_000, {"a": 1, "b": 1, "c": 1})
    {'a': 33333334, 'b': 33333333, 'c': 33333333}

    Raises:
        ValueError: the total or a weight is negative, or all weights are 0 and the total is not.
    """
    whole = sum(weights.values())
    if total < 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError("amounts and weights are not negative")
    if whole == 0:
        if total:
            raise ValueError(f"nothing to split {total} over: all weights are 0")
        return dict.fromkeys(weights, 0)
    parts, rests = {}, []
    for key, weight in weights.items():
        parts[key], rest = divmod(total * weight, whole)
        rests.append((-rest, key))
    for _, key in sorted(rests)[: total - sum(parts.values())]:
        parts[key] += 1
    return parts


def round_half_even(value: Fraction) -> int:
    """The nearest integer, ties to even: the only rounding in the ledger.

    >>> [round_half_even(Fraction(n, 2)) for n in (1, 3, 5)]
    [0, 2, 2]
    """
    return round(value)
