"""What a request costs, when inference overtakes training, when a variant has paid itself back.

Pure: from days of amounts and requests to figures for a report. Unit costs are those of the last
28 complete days, with an interval from 14 days on; before the first complete day they are those
of all traffic so far, and say so with ``days`` = 0.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from steelyard.domain.allocation import round_half_even
from steelyard.domain.break_even import break_even_estimate, pay_back, pay_back_estimate
from steelyard.domain.break_even import crossed_on as first_crossing
from steelyard.domain.measures import FIELDS, Amount, Measures
from steelyard.domain.quantities import Carbon
from steelyard.domain.sci import Sci
from steelyard.domain.sensitivity import Limits
from steelyard.domain.span import day_of
from steelyard.domain.unit_economics import (
    LEAST_DAYS,
    WINDOW_DAYS,
    DayTotal,
    Estimate,
    saving_per_request,
    unit_cost,
)

PER = 1_000
EXAFLOP = 10**18
Days = tuple[DayTotal, ...]
PayBackVerdict = Literal["pays", "not_proven", "never", "unknown"]


@dataclass(frozen=True, slots=True)
class PerThousand:
    """An amount per 1,000 requests in a ledger unit, with its 95 % interval.

    ``low`` and ``high`` are None under 14 ``days``; 0 days: the average of all traffic so far.
    ``coefficient_low`` and ``coefficient_high`` are the amount with every coefficient in it at the
    ends that its source gives: None when one has no ends, or there is none in it.
    """

    value: int | None
    low: int | None = None
    high: int | None = None
    days: int = 0
    coefficient_low: int | None = None
    coefficient_high: int | None = None


@dataclass(frozen=True, slots=True)
class BreakEvenOutlook:
    """Break-even at the present unit cost and traffic.

    ``requests`` until inference has cost what training did, with the ends of the unit cost's
    interval; ``days`` that so many take, ``first_whole_day`` the whole day in which it happens.
    ``crossed_on`` is the day it happened, ``expected_on`` the day it will. None: not known.
    """

    requests: int | None = None
    requests_low: int | None = None
    requests_high: int | None = None
    days: float | None = None
    first_whole_day: int | None = None
    crossed_on: date | None = None
    expected_on: date | None = None
    requests_per_day: float | None = None
    unit_cost_days: int = 0


@dataclass(frozen=True, slots=True)
class PayBackOutlook:
    """When a variant has saved what making it cost.

    ``pays``: certainly (95 %), within ``requests_low`` and ``requests_high``. ``not_proven``: it
    may never, so there is no upper end, or there are fewer than 14 ``paired_days`` for an
    interval. ``never``: a request is not cheaper than the parent's, the time is infinite.
    ``unknown``: a side has served nothing, or an amount is unknown. ``point_estimate``: no
    interval stands behind it. ``saving_per_1000`` is what 1,000 requests save, in the ledger unit
    of what is paid back, with its 95 % interval.
    """

    verdict: PayBackVerdict
    requests: int | None = None
    requests_low: int | None = None
    requests_high: int | None = None
    days: float | None = None
    paired_days: int = 0
    point_estimate: bool = True
    saving_per_1000: int | None = None
    saving_per_1000_low: int | None = None
    saving_per_1000_high: int | None = None


@dataclass(frozen=True, slots=True)
class CarbonScore:
    """Software Carbon Intensity (ISO/IEC 21031:2024); both scores are never added.

    ``consumer`` is grams of CO2e per 1,000 requests, idle time included; ``provider`` grams per
    10^18 training FLOP. Both are operational and embodied together; None while either part, or
    the count, is unknown.
    """

    consumer_g_per_1000: float | None
    provider_g_per_exaflop: float | None


def day_totals(amounts: Iterable[Amount], requests: Mapping[int, int], field: str) -> Days:
    """Amounts and requests by day. A day with device time or requests, but no amount: unknown."""
    found: dict[int, int] = {}
    days = set(requests)
    for one in amounts:
        if one.day is not None:
            days.add(one.day)
            if FIELDS[one.unit] == field:
                found[one.day] = found.get(one.day, 0) + one.amount
    return tuple(DayTotal(day_of(d), found.get(d), requests.get(d, 0)) for d in sorted(days))


# Complete days do not change, so a server need not draw their samples twice.
_unit_cost: Callable[[Days, date], Estimate]
_unit_cost = lru_cache(maxsize=1024)(unit_cost)
_saving: Callable[[Days, Days, date], Estimate]
_saving = lru_cache(maxsize=256)(saving_per_request)


def estimate(days: Days, today: date, total: int | None, requests: int) -> Estimate:
    """The unit cost of the last 28 complete days, else of ``total`` over ``requests`` so far."""
    found = _unit_cost(days, today)
    if found.value is None and total is not None and requests:
        return Estimate(Fraction(total, requests), None, None, 0)
    return found


def per_thousand(found: Estimate, ends: Limits | None = None) -> PerThousand:
    """An estimate a request as one per 1,000, rounded to whole ledger units.

    ``ends`` are the estimate with the coefficients at theirs.
    """
    value, low, high = map(_per_1000, (found.value, found.low, found.high))
    days = found.days if found.value is not None else 0
    return PerThousand(value, low, high, days, *map(_per_1000, ends or (None, None)))


def daily_rate(
    requests: Mapping[int, int], began: date | None, today: date, so_far: float | None
) -> Fraction | None:
    """Requests a day over those of the last 28 complete days that come after traffic ``began``.

    ``so_far`` is the rate of all traffic: it stands in before the first complete day.
    """
    first = today - timedelta(days=WINDOW_DAYS)
    recent = sum(n for day, n in requests.items() if first <= day_of(day) < today)
    if not recent or began is None:
        return None if so_far is None else Fraction(so_far)
    return Fraction(recent, (today - max(first, began)).days)


def break_even_outlook(
    training: int | None, cost: Estimate, rate: Fraction | None, served: int,
    inference: Sequence[tuple[date, int]], today: date,
) -> BreakEvenOutlook:  # fmt: skip
    """Break-even from the cost of a request, the traffic, and inference's amounts by day."""
    if training is None:
        return BreakEvenOutlook()
    found = break_even_estimate(training, cost, rate)
    crossed = first_crossing(training, inference) if inference else None
    expected = None
    if crossed is None and found.requests is not None and rate:
        ahead = math.ceil(max(Fraction(0), found.requests - served) / rate)
        expected = today + timedelta(days=ahead) if ahead <= (date.max - today).days else None
    return BreakEvenOutlook(
        requests=_whole(found.requests), requests_low=_whole(found.low),
        requests_high=_whole(found.high), days=_float(found.days),
        first_whole_day=found.first_whole_day, crossed_on=crossed, expected_on=expected,
        requests_per_day=_float(rate), unit_cost_days=cost.days,
    )  # fmt: skip


def pay_back_outlook(
    making: int | None,
    parent: tuple[int | None, int],
    variant: tuple[int | None, int],
    days: tuple[Days, Days],
    rate: Fraction | None,
    today: date,
) -> PayBackOutlook:
    """Pay-back from paired days when there are 14, else a point from all traffic so far.

    ``parent`` and ``variant`` are (direct amount, requests) so far; ``days`` theirs by day, in that
    order; ``rate`` the variant's requests a day. ``making`` and the amounts share a ledger unit.
    """
    saving = _saving(*days, today)
    if saving.days >= LEAST_DAYS and saving.low is not None and making is not None:
        found = pay_back_estimate(making, saving, rate)
        return PayBackOutlook(
            found.verdict, _whole(found.requests), _whole(found.low), _whole(found.high),
            _float(found.days), saving.days, point_estimate=False,
            saving_per_1000=_per_1000(saving.value), saving_per_1000_low=_per_1000(saving.low),
            saving_per_1000_high=_per_1000(saving.high),
        )  # fmt: skip
    if making is None or parent[0] is None or variant[0] is None:
        return PayBackOutlook("unknown", paired_days=saving.days)
    point = pay_back(making, (parent[0], parent[1]), (variant[0], variant[1]))
    lasts = point.requests / rate if point.requests is not None and rate else None
    return PayBackOutlook(
        "not_proven" if point.verdict == "pays" else point.verdict, point.requests,
        days=_float(lasts), paired_days=saving.days,
        saving_per_1000=_per_1000(point.saving_per_request),
    )  # fmt: skip


def carbon_score(inference: Measures, requests: int, training: Measures) -> CarbonScore:
    """Both scores of SCI for AI, on the basis ``allocation``."""
    consumer = _score(inference, requests, "request")
    provider = _score(training, training.flop or 0, "training FLOP")
    return CarbonScore(
        float(consumer.grams_per(PER)) if consumer else None,
        float(provider.grams_per(EXAFLOP)) if provider else None,
    )


def _score(side: Measures, count: int, unit: str) -> Sci | None:
    if side.carbon_ug is None or side.embodied_ug is None or not count:
        return None
    return Sci(Carbon(side.carbon_ug), Carbon(side.embodied_ug), count, unit)


def _per_1000(value: Fraction | None) -> int | None:
    return None if value is None else round_half_even(value * PER)


def _whole(value: Fraction | None) -> int | None:
    return None if value is None else math.ceil(value)


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
