"""When does inference overtake training, and when has a variant paid itself back?"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

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
