"""Embodied carbon: the share of a device's making that a reservation uses up.

M = TE · (TiR/EL) · (RR/ToR), ISO/IEC 21031:2024 (Software Carbon Intensity): total embodied
emissions, time reserved over expected lifespan, resources reserved over all resources.
"""

from fractions import Fraction

from steelyard.domain.errors import InvalidInput
from steelyard.domain.quantities import HOUR_S, SECOND_US, DeviceTime

HOUR_US = HOUR_S * SECOND_US


def embodied_g(
    total_kg: Fraction, lifespan_h: Fraction, reserved: DeviceTime, share: Fraction = Fraction(1)
) -> Fraction:
    """Grams of CO2e that belong to a reservation, exact.

    ``total_kg`` and ``lifespan_h`` are of one device; ``reserved`` counts every device (TiR and
    RR at once); ``share`` is the part of each that is reserved (RR/ToR, 1 for whole devices).
    A device that outlives its ``lifespan_h`` is charged on: the total was an assumption.

    >>> hour = DeviceTime(HOUR_US)
    >>> float(embodied_g(Fraction(1000), Fraction(4 * 8760), hour))
    28.538812785388128

    Raises:
        InvalidInput: no lifespan, a negative amount, or a share outside 0 to 1.
    """
    if lifespan_h <= 0 or total_kg < 0 or reserved.device_us < 0 or not 0 <= share <= 1:
        raise InvalidInput(
            f"Embodied carbon needs a lifespan, amounts from 0 and a share from 0 to 1, found "
            f"{total_kg} kg, {lifespan_h} h, {reserved.device_us} device-µs, share {share}."
        )
    return total_kg * 1000 * Fraction(reserved.device_us, HOUR_US) / lifespan_h * share
