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
from typing import TypeVar

from steelyard.domain.errors import InvalidInput

WINDOW_DAYS = 28
LEAST_DAYS = 14
BLOCK_DAYS = 7
DRAWS = 2000
SEED = 21_031
"""Stored with every interval, so that anybody can draw the same samples again."""

MASK = 2**64 - 1
T = TypeVar("T")


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
    return _estimate(known, _ratio, seed)


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

    def difference(sample: Sequence[tuple[DayTotal, DayTotal]]) -> Fraction | None:
        dear, cheap = _ratio([p for p, _ in sample]), _ratio([v for _, v in sample])
        return None if dear is None or cheap is None else dear - cheap

    return _estimate(pairs, difference, seed)


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
    starts = count - BLOCK_DAYS + 1
    blocks = math.ceil(count / BLOCK_DAYS)
    numbers = _split_mix_64(seed)
    for _ in range(draws):
        chosen = (next(numbers) * starts >> 64 for _ in range(blocks))
        yield [start + i for start in chosen for i in range(BLOCK_DAYS)][:count]


def _estimate(
    days: Sequence[T], statistic: Callable[[Sequence[T]], Fraction | None], seed: int
) -> Estimate:
    value = statistic(days)
    if value is None or len(days) < LEAST_DAYS:
        return Estimate(value, None, None, len(days), seed)
    drawn: list[Fraction] = []
    for sample in block_samples(len(days), DRAWS, seed):
        found = statistic([days[i] for i in sample])
        if found is None:
            return Estimate(value, None, None, len(days), seed)
        drawn.append(found)
    drawn.sort()
    tail = DRAWS // 40  # 2.5 % on each side
    return Estimate(value, drawn[tail], drawn[-1 - tail], len(days), seed)


def _ratio(days: Sequence[DayTotal]) -> Fraction | None:
    requests = sum(d.requests for d in days)
    return Fraction(sum(d.amount or 0 for d in days), requests) if requests else None


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
