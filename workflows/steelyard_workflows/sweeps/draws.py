"""What a sweep draws, as a pure function of its seed and a number: the same on every machine.

Each key draws for itself, from a digest of (seed, number, key): another key in the search space
leaves the draws of this one as they are.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from hashlib import sha256
from itertools import islice

from steelyard_workflows.workflow import Draw, Sweep

Value = bool | int | float | str
Values = Mapping[str, Value]
DIGITS = 6
"""Significant digits of a drawn number: no machine's logarithm differs in these."""
TRIES = 100
"""Draws per wanted trial before a search space counts as exhausted."""


def drawn(sweep: Sweep, number: int, whole: Collection[str] = ()) -> dict[str, Value]:
    """The ``number``-th draw of every key; the keys in ``whole`` get whole numbers.

    >>> sweep = Sweep(search={"train.epochs": Draw(uniform=(2, 9))})
    >>> [drawn(sweep, n, {"train.epochs"})["train.epochs"] for n in (1, 2, 3)]
    [6, 2, 8]
    """
    return {
        key: value(draw, share(sweep.seed, number, key), whole=key in whole)
        for key, draw in sorted(sweep.search.items())
    }


def different(sweep: Sweep, whole: Collection[str] = ()) -> list[dict[str, Value]]:
    """The values of the trials 1, 2, …: the first draws that differ from those before.

    Fewer than ``trials`` when the search space has no more: what was drawn is not drawn again,
    because the same values would only cost the same once more.
    """
    return list(islice(_different(sweep, whole), sweep.trials))


def _different(sweep: Sweep, whole: Collection[str]) -> Iterator[dict[str, Value]]:
    seen: set[tuple[tuple[str, str], ...]] = set()
    for number in range(1, TRIES * sweep.trials + 1):
        values = drawn(sweep, number, whole)
        known = tuple((key, repr(one)) for key, one in values.items())
        if known not in seen:
            seen.add(known)
            yield values


def share(seed: int, number: int, key: str) -> Fraction:
    """Where in its range a key draws: at least 0, below 1, exact."""
    digest = sha256(f"{seed}/{number}/{key}".encode()).digest()
    return Fraction(int.from_bytes(digest[:8]), 2**64)


def value(draw: Draw, at: Fraction, *, whole: bool) -> Value:
    """What lies at a share of the way through a range or a list of choices.

    >>> value(Draw(choice=("sgd", "adam")), Fraction(1, 2), whole=False)
    'adam'
    >>> value(Draw(log_uniform=(0.001, 0.1)), Fraction(1, 2), whole=False)
    0.01
    """
    if draw.choice is not None:
        return draw.choice[int(at * len(draw.choice))]
    if draw.uniform is not None:
        low, high = draw.uniform
        if whole:
            return math.floor(low) + int(at * (math.floor(high) - math.floor(low) + 1))
        return _rounded(low + (high - low) * float(at), low, high)
    assert draw.log_uniform is not None  # a Draw has exactly one
    low, high = draw.log_uniform
    found = math.exp(math.log(low) + (math.log(high) - math.log(low)) * float(at))
    if whole:
        return min(max(round(found), math.ceil(low)), math.floor(high))
    return _rounded(found, low, high)


def _rounded(found: float, low: float, high: float) -> float:
    return min(max(float(f"{found:.{DIGITS}g}"), low), high)
