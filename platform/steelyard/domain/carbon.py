"""Operational carbon, location-based: facility energy × grid intensity."""

from fractions import Fraction

from steelyard.domain.allocation import round_half_even


def operational_ug(facility_mj: int, intensity_g_per_kwh: Fraction) -> int:
    """Micrograms of CO2e: mJ · g/kWh / 3600 (SCI, ISO/IEC 21031:2024; no offsets).

    >>> operational_ug(756_000_000, Fraction("380.95"))
    79999500
    """
    return round_half_even(Fraction(facility_mj) * intensity_g_per_kwh / 3600)


def facility_overhead_mj(energy_mj: int, pue: Fraction) -> int:
    """What the building adds to the devices' energy: E · (PUE − 1).

    Raises:
        ValueError: a PUE below 1 would mean that the building makes energy.
    """
    if pue < 1:
        raise ValueError(f"PUE is at least 1, found {pue}")
    return round_half_even(energy_mj * (pue - 1))
