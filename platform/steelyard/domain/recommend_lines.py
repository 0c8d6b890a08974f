"""The arithmetic of a recommendation, line by line, for people. Pure.

Money is said per 1,000 requests, because one costs next to nothing; it is never rounded before
it is multiplied.
"""

from collections.abc import Iterator
from fractions import Fraction

from steelyard.domain import figures
from steelyard.domain.allocation import round_half_even
from steelyard.domain.gates import Finding
from steelyard.domain.prospect import LEAST_PRECEDENTS, Prospect
from steelyard.domain.recommend import Ask, Recommendation, Total
from steelyard.domain.request_cost import RequestCost

PER = 1_000


def money(nano: Fraction | None) -> str:
    """An exact amount of nano-USD, as it is read.

    >>> money(Fraction(5_000_000_001, 2)), money(None)
    ('$2.50', '–')
    """
    return figures.money(None if nano is None else round_half_even(nano))


def per_1000(cost: RequestCost) -> str:
    """A cost per 1,000 requests with its interval, where there is one."""
    if cost.value is None:
        return figures.UNKNOWN
    text = money(PER * cost.value)
    if cost.low is not None and cost.high is not None:
        text += f" [{money(PER * cost.low)}, {money(PER * cost.high)}]"
    return text


def standing(total: Total) -> str:
    """Whether a version passes; if not, each gate that it does not pass, and why."""
    one = total.candidate
    if one.why:
        return one.why
    missed = [f for f in one.findings if f.verdict != "pass"]
    return "; ".join(map(_missed, missed)) or "passes"


def _missed(found: Finding) -> str:
    return f"{found.gate} {found.verdict}: {found.why}"


def arithmetic(total: Total, ask: Ask) -> list[str]:
    """What a registered version comes to over the horizon."""
    one, cost = total.candidate, total.candidate.cost
    said = [
        f"{ask.requests_per_day:,} requests a day × {ask.horizon_days} days "
        f"= {ask.requests:,} requests",
        "making it: $0 still to pay; it is registered, what it cost is spent whatever is chosen",
    ]
    if cost.value is None:
        return [*said, "cost: unknown; device time decides instead"]
    origin = {
        "ledger": f"measured by the ledger, {_days(cost.days)}",
        "evidence": f"estimated: {float(one.time or 0):.3g} of the baseline's device time",
    }[cost.basis]
    said.append(f"{per_1000(cost)} per 1,000 requests ({origin})")
    sum_up = f"{ask.requests:,} × {money(PER * cost.value)} / 1,000 = {money(total.value)}"
    if total.low is not None and total.high is not None:
        return [*said, f"{sum_up} [{money(total.low)}, {money(total.high)}], 95 %"]
    return [*said, f"{sum_up}; a point estimate"]


def _days(days: int) -> str:
    return f"{days} complete days" if days else "all traffic so far"


def prospects(found: Recommendation) -> Iterator[str]:
    """A line about every kind that could be made."""
    for one in found.prospects:
        if one.kind.precedents:
            yield f"{one.kind.name}: {'; '.join(_prospect(one, found))}"
    unknown = [p.kind.name for p in found.prospects if not p.kind.precedents]
    if unknown:
        yield (f"{', '.join(unknown)}: cost and saving unknown, never measured here; pay-back not "
               "proven")  # fmt: skip
        if found.best is not None and found.best.value is not None:
            yield f"no kind can save more than {money(found.best.value)} in the horizon"


def _prospect(one: Prospect, found: Recommendation) -> Iterator[str]:
    names = ", ".join(p.name for p in one.kind.precedents)
    yield f"predicted from {len(one.kind.precedents)} measured ({names})"
    yield {True: "would pass", False: "would not pass", None: "gates unknown"}[one.passes]
    making = "unknown" if one.making_nano is None else money(one.making_nano[1])
    yield f"making it {making}"
    if one.request_nano is not None:
        low, typical, high = (money(PER * end) for end in one.request_nano)
        spread = "" if low == high else f" [{low}, {high}]"
        yield f"then {typical}{spread} per 1,000 requests"
    if one.making_nano is None and one.worth_nano is not None and one.worth_nano > 0:
        yield f"making it may cost {money(one.worth_nano)} to pay back in the horizon"
    if one.total is not None:
        yield f"{money(one.total)} over {found.ask.horizon_days} days"
    yield f"pay-back {pay_back(one)}"


def pay_back(one: Prospect) -> str:
    """When a kind will have paid for its making, against the version to serve now."""
    if one.verdict == "unknown":
        return "unknown"
    if one.verdict == "never":
        return "never: a request would not be cheaper"
    about, days = one.pay_back.requests, one.pay_back.days
    text = ""
    if about is not None and days is not None:
        text = f" after {figures.count(round_half_even(about))} requests, {float(days):.3g} days"
    if one.verdict == "pays":
        low, high = one.pay_back.low, one.pay_back.high
        ends = [figures.count(None if end is None else round_half_even(end)) for end in (low, high)]
        return f"{text.strip()} [{ends[0]}, {ends[1]}]"
    few = f"; measured {len(one.kind.precedents)} of {LEAST_PRECEDENTS} times"
    return f"not proven:{text or ' making cost unknown'}" + (
        few if len(one.kind.precedents) < LEAST_PRECEDENTS else ""
    )
