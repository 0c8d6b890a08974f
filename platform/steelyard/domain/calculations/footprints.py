"""Energy and carbon: devices, embodied shares, scores, and what ancestors carry."""

from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.amortisation import amortise
from steelyard.domain.calculations.bills import YEAR_DAYS, Race, overtaking
from steelyard.domain.calculations.figure import Figures
from steelyard.domain.carbon import operational_ug
from steelyard.domain.embodied import embodied_g
from steelyard.domain.lineage import upstream
from steelyard.domain.quantities import (
    GRAM_UG,
    HOUR_S,
    KWH_MJ,
    Carbon,
    device_time,
    facility_energy,
)
from steelyard.domain.sci import Sci


def device_energy(
    *, power_w: Fraction, pue: Fraction = Fraction(1), devices: int | None = None,
    wall_h: Fraction | None = None, device_h: Fraction | None = None,
    g_per_kwh: Fraction | None = None,
) -> Figures:  # fmt: skip
    """Energy and carbon of devices at a constant power: a count and wall hours, or device-hours."""
    time = device_time(
        devices=devices,
        wall_s=None if wall_h is None else wall_h * HOUR_S,
        device_s=None if device_h is None else device_h * HOUR_S,
    )
    energy = facility_energy(time, power_w, pue)
    figures: Figures = {"device_us": Fraction(time.device_us), "energy_kwh": energy.kwh}
    if g_per_kwh is not None:
        carbon = Carbon(operational_ug(energy.energy_mj, g_per_kwh))
        figures["carbon_kg"] = carbon.grams / 1000
    return figures


def embodied_share(*, total_kg: Fraction, lifespan_h: Fraction, device_h: Fraction) -> Figures:
    """Embodied carbon of a reservation."""
    reserved = device_time(device_s=device_h * HOUR_S)
    return {"embodied_g": embodied_g(total_kg, lifespan_h, reserved)}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Emissions of a boundary, its functional units, and by how many of them to report."""

    operational_kg: Fraction
    units: Fraction
    per: Fraction
    embodied_kg: Fraction = Fraction(0)


def carbon_intensity(*, scores: dict[str, Footprint]) -> Figures:
    """Software Carbon Intensity of each boundary, in grams per so many functional units."""
    figures: Figures = {}
    for name, one in scores.items():
        score = Sci(_carbon(one.operational_kg), _carbon(one.embodied_kg), round(one.units), name)
        figures[f"{name}_g"] = score.grams_per(round(one.per))
    return figures


@dataclass(frozen=True, slots=True)
class Serving:
    """Energy of a request, carbon of the grid, requests a day, and what training emitted."""

    requests_per_day: Fraction
    kwh_per_request: Fraction
    kg_per_kwh: Fraction
    training_t: Fraction


def carbon_overtaking(*, cases: dict[str, Serving]) -> Figures:
    """A year's energy and carbon of inference, and when it has emitted what training did."""
    figures: Figures = {}
    for name, case in cases.items():
        kwh = case.requests_per_day * case.kwh_per_request
        tonnes = kwh * case.kg_per_kwh / 1000
        figures[f"{name}_kwh_per_year"] = kwh * YEAR_DAYS
        figures[f"{name}_t_per_year"] = tonnes * YEAR_DAYS
        figures[f"{name}_days"] = overtaking(cases={name: Race(case.training_t, tonnes)})[
            f"{name}_days"
        ]
    return figures


def teacher_to_students(*, teacher_kwh: Fraction, tokens: dict[str, int]) -> Figures:
    """What each student takes over of its teacher's energy, by labelled tokens."""
    parts = amortise(round(teacher_kwh * KWH_MJ), tokens)
    return {f"{student}_mj": Fraction(amount) for student, amount in parts.items()}


def version_upstream(
    *, own: dict[str, int], parents: dict[str, list[str]], version: str
) -> Figures:
    """What a version and its distinct ancestors took, beside the sum over paths."""
    found = upstream(own, parents, version)

    def over_paths(one: str) -> int:
        return own.get(one, 0) + sum(over_paths(parent) for parent in parents.get(one, ()))

    return {
        "upstream": Fraction(found.upstream),
        "total": None if found.total is None else Fraction(found.total),
        "total_over_paths": Fraction(over_paths(version)),
    }


def _carbon(kg: Fraction) -> Carbon:
    return Carbon(round(kg * 1000 * GRAM_UG))
