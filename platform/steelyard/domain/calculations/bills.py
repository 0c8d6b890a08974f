"""Money and rates: bills, when they pass the training, throughput, shared nodes, pay-back."""

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.amortisation import share_idle
from steelyard.domain.break_even import break_even_estimate, pay_back_estimate
from steelyard.domain.calculations.figure import Figures
from steelyard.domain.errors import InvalidInput
from steelyard.domain.forecast import BASIS_WEEKS, WEEK, forecast
from steelyard.domain.quantities import NANO
from steelyard.domain.unit_economics import Estimate

YEAR_DAYS = 365


def daily_bill(*, usd_per_day: Fraction, training_usd: Fraction) -> Figures:
    """A daily inference bill against the cost of training: a year's bill, and when it passes."""
    days = _days(training_usd, usd_per_day)
    return {
        "usd_per_year": usd_per_day * YEAR_DAYS,
        "days_until_training_is_passed": days,
        "first_whole_day": _ceil(days),
    }


def token_bill(
    *, requests_per_day: Fraction, tokens_per_request: Fraction, usd_per_1000_tokens: Fraction,
    training_usd: Fraction,
) -> Figures:  # fmt: skip
    """A bill by tokens, in dollars a day and a year, and when it passes the training."""
    per_day = requests_per_day * tokens_per_request * usd_per_1000_tokens / 1000
    return {"usd_per_day": per_day} | daily_bill(usd_per_day=per_day, training_usd=training_usd)


def list_price(
    *, usd_per_1000: dict[str, Fraction], requests_per_day: Fraction | None = None
) -> Figures:
    """What prices per 1,000 requests are per request and, with a rate, per day."""
    figures: Figures = {}
    for name, price in usd_per_1000.items():
        figures[f"{name}_usd_per_request"] = price / 1000
        if requests_per_day is not None:
            figures[f"{name}_usd_per_day"] = price / 1000 * requests_per_day
    return figures


@dataclass(frozen=True, slots=True)
class Race:
    """What training took once and what inference takes a day, in any one unit."""

    training: Fraction
    per_day: Fraction


def overtaking(*, cases: dict[str, Race]) -> Figures:
    """After how many days, and years of 365, inference has taken what training did."""
    figures: Figures = {}
    for name, case in cases.items():
        days = _days(case.training, case.per_day)
        figures[f"{name}_days"] = days
        figures[f"{name}_years"] = None if days is None else days / YEAR_DAYS
    return figures


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests answered together, and how long that takes."""

    size: Fraction
    ms: Fraction


def throughput(
    *, batches: list[Batch], items: Fraction, minutes: Fraction, usd: Fraction
) -> Figures:
    """Requests a second at each batch size; the rate and unit price of a job of ``items``."""
    figures: Figures = {
        f"requests_per_s_at_batch_{batch.size}": batch.size * 1000 / _positive(batch.ms)
        for batch in batches
    }
    figures["items_per_s"] = items / (_positive(minutes) * 60)
    figures["usd_per_item"] = usd / _positive(items)
    return figures


def shared_node(*, usd: Fraction, percent_used: dict[str, Fraction]) -> Figures:
    """What users of a node pay when its idle part is shared in proportion to use (OpenCost)."""
    idle = 100 - sum(percent_used.values(), Fraction(0))
    if idle < 0:
        raise InvalidInput(f"A node is used to 100 % at most, found {100 - idle} %.")
    weights = {name: _scaled(part) for name, part in percent_used.items()}
    parts = largest_remainder(_scaled(usd), {**weights, "": _scaled(idle)})
    unused = parts.pop("")
    return {
        f"{name}_usd": Fraction(amount, NANO) for name, amount in share_idle(parts, unused).items()
    }


def pay_back(
    *, making_usd: Fraction, saving_usd: Fraction, saving_usd_low: Fraction,
    saving_usd_high: Fraction, requests_per_day: Fraction,
) -> Figures:  # fmt: skip
    """When a variant has earned what making it cost, and whether that is proven."""
    saving = Estimate(saving_usd * NANO, saving_usd_low * NANO, saving_usd_high * NANO, 0)
    found = pay_back_estimate(_scaled(making_usd), saving, requests_per_day)
    return {
        "verdict": found.verdict,
        "requests": found.requests,
        "requests_low": found.low,
        "requests_high": "no upper end" if found.verdict == "not_proven" else found.high,
        "days": found.days,
    }


def weekly_forecast(*, week: list[int], weeks: int) -> Figures:
    """The next week after so many equal weeks: the total, its band, and the band's coverage."""
    if len(week) != WEEK or weeks < BASIS_WEEKS:
        raise InvalidInput(
            f"A week has 7 days and a forecast needs {BASIS_WEEKS} weeks, found {len(week)} days "
            f"in each of {weeks} weeks."
        )
    first = date(2024, 1, 1)
    daily = {first + timedelta(days=i): week[i % WEEK] for i in range(weeks * WEEK)}
    start = first + timedelta(weeks=weeks)
    found = forecast(daily, start, start + timedelta(days=WEEK - 1))
    assert found is not None
    banded = found.low is not None and found.high is not None
    width = Fraction((found.high or 0) - (found.low or 0)) if banded else None
    return {
        "next_week": Fraction(found.expected),
        "band_width": width,
        "origins": Fraction(found.origins),
        "coverage": found.coverage,
    }


def _days(training: Fraction, per_day: Fraction) -> Fraction | None:
    estimate = break_even_estimate(
        _scaled(training), Estimate(per_day * NANO, None, None, 0), Fraction(1)
    )
    return estimate.days


def _ceil(days: Fraction | None) -> Fraction | None:
    return None if days is None else Fraction(-(-days // 1))


def _scaled(amount: Fraction) -> int:
    return round(amount * NANO)


def _positive(value: Fraction) -> Fraction:
    if value <= 0:
        raise InvalidInput(f"Times and numbers of items are positive, found {value}.")
    return value
