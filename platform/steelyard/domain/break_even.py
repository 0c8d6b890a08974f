"""When does inference overtake training, and when has a variant paid itself back?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal

from steelyard.domain.unit_economics import Estimate

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Requests (and days at the measured rate) until cumulative inference ≥ training.

    ``crossed`` says that it already happened. None means unknown, never 0.
    """

    requests: int | None
    days: float | None
    crossed: bool


def break_even(
    training: int, inference: int, requests: int, requests_per_day: float | None
) -> BreakEven:
    """R* = C_train / c_query, with c_query = inference so far / requests so far.

    ``training`` and ``inference`` are in one unit on one basis. Days count from the first
    request at the measured rate.

    >>> break_even(100, 10, 20, None).requests
    200
    """
    if requests <= 0 or inference <= 0:
        return BreakEven(None, None, crossed=False)
    needed = math.ceil(Fraction(training * requests, inference))
    days = needed / requests_per_day if requests_per_day else None
    return BreakEven(needed, days, crossed=inference >= training)


@dataclass(frozen=True, slots=True)
class PayBack:
    """What making a variant cost against what each of its requests saves.

    ``verdict``: ``pays`` after ``requests``; ``never`` when a request is not cheaper than the
    parent's; ``unknown`` while either side has served nothing. No interval is computed from one
    short measurement, so the figure is a point estimate and is labelled so.
    """

    verdict: Literal["pays", "never", "unknown"]
    requests: int | None = None
    saving_per_request: Fraction | None = None


def pay_back(making: int, parent: tuple[int, int], variant: tuple[int, int]) -> PayBack:
    """Requests until a variant's making cost is saved: C_v / (c_parent − c_variant).

    ``parent`` and ``variant`` are (inference total, requests) in the unit of ``making``.

    >>> pay_back(2000, (20, 10), (10, 10)).requests
    2000
    """
    if not parent[1] or not variant[1]:
        return PayBack("unknown")
    saving = Fraction(*parent) - Fraction(*variant)
    if saving <= 0:
        return PayBack("never", saving_per_request=saving)
    return PayBack("pays", math.ceil(making / saving), saving)


@dataclass(frozen=True, slots=True)
class BreakEvenEstimate:
    """Break-even as a real value, with what the uncertainty of the unit cost makes of it.

    ``requests`` and ``days`` are exact quotients; ``first_whole_day`` is the first day at whose
    end inference has cost as much as training. ``low`` and ``high`` are requests at the upper
    and lower end of the unit cost; None is unknown, and a None ``high`` beside a known ``low``
    has no upper end.
    """

    requests: Fraction | None
    days: Fraction | None = None
    first_whole_day: int | None = None
    low: Fraction | None = None
    high: Fraction | None = None


def break_even_estimate(
    training: int, unit_cost: Estimate, requests_per_day: Fraction | None = None
) -> BreakEvenEstimate:
    """R* = C_train / c_query at a measured unit cost.

    ``training`` is in the unit and on the basis of ``unit_cost``; failed runs belong to it.

    >>> paid = Estimate(Fraction(150_000), None, None, 28)
    >>> break_even_estimate(100_000_000, paid, Fraction(1)).first_whole_day
    667
    """
    if unit_cost.value is None or unit_cost.value <= 0:
        return BreakEvenEstimate(None)
    requests = training / unit_cost.value
    days = requests / requests_per_day if requests_per_day else None
    return BreakEvenEstimate(
        requests, days, None if days is None else math.ceil(days),
        low=training / unit_cost.high if unit_cost.high else None,
        high=training / unit_cost.low if unit_cost.low else None,
    )  # fmt: skip


def crossed_on(training: int, inference: Iterable[tuple[date, int]]) -> date | None:
    """The first day at whose end cumulative inference had cost what training did; None before it.

    ``inference`` holds the amounts of complete days in the unit and on the basis of ``training``.
    """
    total = 0
    for day, amount in sorted(inference):
        total += amount
        if total >= training:
            return day
    return None


@dataclass(frozen=True, slots=True)
class PayBackEstimate:
    """When a variant has paid itself back, as a range of requests.

    ``pays``: the whole interval of the saving is above 0. ``not_proven``: it holds 0, so ``high``
    is None: there is no upper end. ``never``: the whole interval is at or below 0. ``unknown``:
    no interval (too few paired days) or no making cost; ``requests`` may still be a point.
    """

    verdict: Literal["pays", "not_proven", "never", "unknown"]
    requests: Fraction | None = None
    low: Fraction | None = None
    high: Fraction | None = None
    days: Fraction | None = None


def pay_back_estimate(
    making: int | None, saving: Estimate, requests_per_day: Fraction | None = None
) -> PayBackEstimate:
    """C_v / s with its interval [C/s_hi, C/s_lo], open above when the saving may be nothing.

    ``making`` is compress + distill_label + evaluate + shadow; ``saving`` is the parent's less
    the variant's cost per request over paired days, in the same unit.
    """
    s = saving.value
    if making is None or s is None:
        return PayBackEstimate("unknown")
    requests = making / s if s > 0 else None
    days = requests / requests_per_day if requests is not None and requests_per_day else None
    if saving.low is None or saving.high is None:
        return PayBackEstimate("unknown", requests, days=days)
    if saving.high <= 0:
        return PayBackEstimate("never")
    low = making / saving.high
    if saving.low <= 0:
        return PayBackEstimate("not_proven", requests, low, None, days)
    return PayBackEstimate("pays", requests, low, making / saving.low, days)
