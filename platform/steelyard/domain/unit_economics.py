"""What one request costs, in money, energy or carbon, and how sure that is.

A unit cost is the sum of amounts over the sum of requests of the last 28 complete days. Its 95 %
interval comes from a moving-block bootstrap over days (Künsch 1989): days are drawn in blocks of
a week, because a Monday resembles the Mondays around it more than it does a Sunday.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

from steelyard.domain.errors import InvalidInput

WINDOW_DAYS = 28
LEAST_DAYS = 14
BLOCK_DAYS = 7
DRAWS = 2000
SEED = 21_031
"""Stored with every interval, so that anybody can draw the same samples again."""

MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class DayTotal:
    """One complete day (UTC): an amount in one ledger unit, None when unknown, and requests."""

    day: date
    amount: int | None
    requests: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure per request with its 95 % interval.

    ``value`` is None without requests; ``low`` and ``high`` are None when fewer than 14 ``days``
    had known amounts, or when so few had requests that a sample of days may have none.
    """

    value: Fraction | None
    low: Fraction | None
    high: Fraction | None
    days: int
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class CoefficientRange:
    """A coefficient that an amount is proportional to, with the limits its source gives."""

    value: Fraction
    low: Fraction | None = None
    high: Fraction | None = None


def unit_cost(days: Sequence[DayTotal], today: date, seed: int = SEED) -> Estimate:
    """Amount per request over the last 28 complete days, i.e. those before ``today``.

    Days with an unknown amount are left out together with their requests: unknown is not free.
    Days with cost and no request count, they make the others' requests dearer.

    Raises:
        InvalidInput: a day is given twice.
    """
    known = [d for d in _recent(days, today) if d.amount is not None]
    return _estimate([(d.amount or 0, d.requests) for d in known], _ratio, seed)


def saving_per_request(
    parent: Sequence[DayTotal], variant: Sequence[DayTotal], today: date, seed: int = SEED
) -> Estimate:
    """What a request saves on a variant: the parent's unit cost less the variant's.

    Only days on which both served count, and both are drawn together, so that whatever made a
    day dear or cheap for both does not pass for a difference.
    """
    mine = {d.day: d for d in _recent(variant, today) if d.amount is not None and d.requests}
    pairs = [
        (theirs, mine[theirs.day])
        for theirs in _recent(parent, today)
        if theirs.day in mine and theirs.amount is not None and theirs.requests
    ]

    rows = [(p.amount or 0, p.requests, v.amount or 0, v.requests) for p, v in pairs]
    return _estimate(rows, _difference, seed)


def at_coefficients(
    value: Fraction, ranges: Sequence[CoefficientRange]
) -> tuple[Fraction, Fraction] | None:
    """``value`` with every coefficient at its low and at its high end; None when one has no range.

    For energy and carbon, which are as uncertain as the watts, the grid and the building are:
    an interval over days does not show that.

    >>> at_coefficients(Fraction(10), [CoefficientRange(Fraction(4), Fraction(2), Fraction(6))])
    (Fraction(5, 1), Fraction(15, 1))
    """
    low = high = value
    for one in ranges:
        if one.low is None or one.high is None or not one.value:
            return None
        low, high = low * one.low / one.value, high * one.high / one.value
    return (low, high) if ranges else None


def block_samples(count: int, draws: int, seed: int) -> Iterator[list[int]]:
    """Index lists of a moving-block bootstrap of ``count`` days, each as long as the original.

    The generator is SplitMix64 (Steele et al. 2014), written out so that a stored seed gives the
    same samples on every machine and Python.
    """
    for chosen in _block_starts(count, draws, seed):
        yield [start + i for start in chosen for i in range(BLOCK_DAYS)][:count]


@lru_cache(maxsize=32)
def _block_starts(count: int, draws: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Where the blocks of every sample start; the same for every series of so many days."""
    starts, blocks = count - BLOCK_DAYS + 1, math.ceil(count / BLOCK_DAYS)
    numbers = _split_mix_64(seed)
    return tuple(
        tuple(next(numbers) * starts >> 64 for _ in range(blocks)) for _ in range(draws)
    )  # fmt: skip


Quotient = tuple[int, int]
"""Numerator and denominator; without a denominator there is no value."""


def _estimate(
    days: Sequence[tuple[int, ...]], statistic: Callable[[Sequence[int]], Quotient], seed: int
) -> Estimate:
    """The statistic of the days' sums and its interval: whole numbers until the two ends of it."""
    over, under = statistic([sum(column) for column in zip(*days, strict=True)] or [0] * 4)
    value = Fraction(over, under) if under else None
    if value is None or len(days) < LEAST_DAYS:
        return Estimate(value, None, None, len(days), seed)
    drawn = [statistic(sums) for sums in _sample_sums(days, seed)]
    if not all(under for _, under in drawn):
        return Estimate(value, None, None, len(days), seed)
    # Unequal fractions differ by at least the inverse of both denominators: so the whole part
    # orders them as they are, at a fraction of the time.
    shift = 2 * max(under for _, under in drawn).bit_length()
    drawn.sort(key=lambda q: (q[0] << shift) // q[1])
    tail = DRAWS // 40  # 2.5 % on each side
    return Estimate(value, Fraction(*drawn[tail]), Fraction(*drawn[-1 - tail]), len(days), seed)


def _sample_sums(days: Sequence[tuple[int, ...]], seed: int) -> Iterator[list[int]]:
    """The sums of every sample's days, added up block by block."""
    last = len(days) - BLOCK_DAYS * (math.ceil(len(days) / BLOCK_DAYS) - 1)
    columns = []
    for column in zip(*days, strict=True):
        upto = [0, *accumulate(column)]
        columns.append([
            [right - left for left, right in zip(upto, upto[length:], strict=False)]
            for length in (BLOCK_DAYS, last)
        ])  # fmt: skip
    for *whole, cut in _block_starts(len(days), DRAWS, seed):
        yield [sum([block[start] for start in whole]) + end[cut] for block, end in columns]


def _ratio(sums: Sequence[int]) -> Quotient:
    return sums[0], sums[1]


def _difference(sums: Sequence[int]) -> Quotient:
    dear, theirs, cheap, mine = sums
    return dear * mine - cheap * theirs, theirs * mine


def _recent(days: Sequence[DayTotal], today: date) -> list[DayTotal]:
    first = today - timedelta(days=WINDOW_DAYS)
    recent = sorted((d for d in days if first <= d.day < today), key=lambda d: d.day)
    if len({d.day for d in recent}) < len(recent):
        raise InvalidInput("A day is given twice.", hint="Add its amounts up first.")
    return recent


def _split_mix_64(state: int) -> Iterator[int]:
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)
