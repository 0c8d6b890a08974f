"""Figures of reports in words: the command line and the pages say the same."""

from collections.abc import Mapping
from datetime import date

from steelyard.domain import figures
from steelyard.domain.break_even import BreakEven
from steelyard.domain.forecast import LEAST_ORIGINS
from steelyard.domain.measures import TIERS, Measures, tier_shares
from steelyard.services.accounts import ComputeLine, ModelStatement, Received, VersionStatement
from steelyard.services.economics import BreakEvenOutlook, PayBackOutlook, PerThousand
from steelyard.services.outlooks import ForecastLine

UNITS = {
    "cost_nano": figures.money, "energy_mj": figures.energy, "carbon_ug": figures.carbon,
    "embodied_ug": figures.carbon, "device_us": figures.duration,
}  # fmt: skip
NAMES = {
    "cost_nano": "cost", "energy_mj": "energy", "carbon_ug": "carbon (operational)",
    "embodied_ug": "carbon (embodied)", "device_us": "device time",
}  # fmt: skip


def amount(value: int | None, measure: str) -> str:
    """An amount of a measure, in a readable unit.

    >>> amount(1_500_000_000, "cost_nano")
    '$1.50'
    """
    return UNITS[measure](value)


def cells(m: Measures) -> tuple[str, ...]:
    """FLOPs, device time, cost, energy, operational and embodied carbon."""
    return (figures.flops(m.flop), figures.duration(m.device_us), figures.money(m.cost_nano),
            figures.energy(m.energy_mj), figures.carbon(m.carbon_ug),
            figures.carbon(m.embodied_ug))  # fmt: skip


def completeness(found: Received) -> str:
    """How much of what was measured arrived."""
    if found.share is None:
        return "no windows were expected"
    text = f"complete: {figures.percent(found.share)} of {figures.count(found.expected)} windows"
    if found.open_boots:
        text += f"; {found.open_boots} of {found.boots} producers gave no last number"
    return text


def tiers(energy_by_tier: Mapping[str, int]) -> str:
    """How the energy was found, method by method."""
    shares = tier_shares(energy_by_tier)
    if not shares:
        return "energy: unknown"
    parts = (f"{figures.percent(share)} {TIERS.get(tier, tier or 'unknown method')}"
             for tier, share in shares.items())  # fmt: skip
    return f"energy found by: {', '.join(parts)}"


def break_even(found: BreakEven) -> str:
    """At the average cost of a request so far."""
    if found.requests is None:
        return "unknown: no requests were charged yet"
    days = f", {found.days:.3g} days at the measured traffic" if found.days is not None else ""
    state = "reached" if found.crossed else "not reached yet"
    many = figures.count(found.requests)
    return f"inference overtakes training after {many} requests{days}; {state}"


def break_even_outlook(found: BreakEvenOutlook) -> str:
    """At the cost of the last complete days, with interval and date."""
    if found.requests is None or not found.unit_cost_days:
        return "unknown until a whole day (UTC) has traffic"
    text = f"{figures.count(found.requests)} requests{_range(found.requests_low, found)}"
    if found.crossed_on is not None:
        text += f"; crossed on {found.crossed_on}"
    elif found.expected_on is not None:
        text += f"; expected on {found.expected_on}"
    days = found.unit_cost_days
    sure = "95 % interval" if found.requests_low is not None else "no interval under 14 days"
    return f"{text} (cost of {days} complete days; {sure})"


def _range(low: int | None, found: BreakEvenOutlook) -> str:
    if low is None:
        return ""
    high = found.requests_high
    return f" [{figures.count(low)}, {'∞' if high is None else figures.count(high)}]"


def pay_back(found: PayBackOutlook | None) -> str | None:
    """When a variant pays itself back; None where there is nothing to pay back."""
    if found is None:
        return None
    if found.verdict == "unknown":
        return "unknown yet"
    point = "; a point estimate" if found.point_estimate else ""
    if found.verdict == "never":
        return f"never (infinite): a request is not cheaper than the parent's{point}"
    about = "unknown" if found.requests is None else f"{figures.count(found.requests)} requests"
    if found.days is not None:
        about += f", {found.days:.3g} days"
    if found.verdict == "pays":
        return f"after {about} [{figures.count(found.requests_low)}, " + (
            f"{figures.count(found.requests_high)}], 95 %"
        )
    if found.point_estimate:
        days = f"{found.paired_days} of 14 paired days"
        return f"not proven: after about {about}{point}, {days}"
    return f"not proven: after {about} [{figures.count(found.requests_low)}, ∞)"


def saving(found: PayBackOutlook, measure: str) -> str | None:
    """What 1,000 requests save against the parent, with its interval; None where unknown."""
    if found.saving_per_1000 is None:
        return None
    say = UNITS[measure]
    text = f"saves {say(found.saving_per_1000)}"
    if found.saving_per_1000_low is not None:
        text += f" [{say(found.saving_per_1000_low)}, {say(found.saving_per_1000_high)}]"
    return f"{text} per 1,000 requests"


def pay_backs(found: VersionStatement) -> list[str]:
    """A variant's pay-back in money, energy and carbon, a line each; none without a parent."""
    lines = []
    for measure, one in (
        ("cost_nano", found.pay_back), ("energy_mj", found.pay_back_energy),
        ("carbon_ug", found.pay_back_carbon),
    ):  # fmt: skip
        if one is not None:
            took = f"making it took {amount(getattr(found.training, measure), measure)}"
            said = [part for part in (took, saving(one, measure), pay_back(one)) if part]
            lines.append(f"{NAMES[measure]}: {'; '.join(said)}")
    return lines


def per_thousand(name: str, found: PerThousand) -> str:
    """An amount per 1,000 requests with its interval and its range over the coefficients."""
    say = UNITS[name]
    text = say(found.value)
    if found.low is not None:
        text += f" [{say(found.low)}, {say(found.high)}]"
    ends = coefficient_range(name, found)
    return f"{text} ({ends})" if ends else text


def coefficient_range(name: str, found: PerThousand) -> str | None:
    """From the low to the high ends of the coefficients; None where they have none."""
    say = UNITS[name]
    if found.coefficient_low is None:
        return None
    return f"{say(found.coefficient_low)} to {say(found.coefficient_high)} by coefficients"


def utilisation(found: ComputeLine) -> str:
    """Model FLOPs utilisation, or why it is not known."""
    if found.mfu is None:
        return f"unknown: {found.mfu_unknown}"
    return figures.percent(found.mfu)


def notices(found: ModelStatement) -> list[str]:
    """What somebody has to know of a model: versions that reach the EU's threshold."""
    return [
        f"{found.model}/{v.version} and its ancestors took "
        f"{figures.flops(v.upstream.training_flop)} of training, at least 10^25: systemic risk "
        "is presumed (EU AI Act, Art. 51)"
        for v in found.versions
        if v.upstream is not None and v.upstream.eu_alert == "reached"
    ]


def how_sure(found: ForecastLine) -> str:
    """The chance of a forecast's band, or what is missing for one."""
    if found.missing_days:
        return f"no forecast: {found.missing_days} of the last 28 days are not known"
    if found.coverage is None:
        return f"no band yet: {LEAST_ORIGINS} comparisons need {found.missing_weeks} more week(s)"
    unknown = f"; {found.unknown_days} days are unknown" if found.unknown_days else ""
    return f"band holds with {figures.percent(found.coverage)}{unknown}"


def span(first: date | None, last: date | None) -> str:
    """The days that a report counts."""
    return "everything so far" if first is None else f"{first} to {last}"
