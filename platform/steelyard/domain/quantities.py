"""Amounts that cannot be mixed: device time, energy, carbon and money, in the ledger's units.

Adding two kinds, or two currencies, raises. Device time is given as a device count with wall
seconds, or as device-seconds, never as both: "54 hours on 8 GPUs" is either, and choosing the
wrong one is off by the number of devices.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from steelyard.domain.allocation import round_half_even
from steelyard.domain.errors import InvalidInput

SECOND_US = 1_000_000
HOUR_S = 3_600
KWH_MJ = 3_600_000_000
GRAM_UG = 1_000_000
NANO = 1_000_000_000

Number = int | str | Decimal | Fraction
"""What an exact amount is given as. A float is not: 0.1 is not a tenth."""


def exact(value: Number) -> Fraction:
    """A number without rounding; text is decimal ("0.1", "1e12").

    >>> exact("0.1") * 3
    Fraction(3, 10)

    Raises:
        InvalidInput: a float or a truth value (neither says what was meant), or text that is
            no number.
    """
    if isinstance(value, bool | float):
        raise InvalidInput(f"{value!r} is not exact.", hint="Write it as text or as a fraction.")
    try:
        return Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise InvalidInput(f"{value!r} is not a number.") from error


@dataclass(frozen=True, slots=True, order=True)
class DeviceTime:
    """Reserved time in device-microseconds: wall time × devices."""

    device_us: int

    def __add__(self, other: "DeviceTime") -> "DeviceTime":
        if not isinstance(other, DeviceTime):
            return NotImplemented
        return DeviceTime(self.device_us + other.device_us)

    @property
    def device_s(self) -> Fraction:
        """Device-seconds."""
        return Fraction(self.device_us, SECOND_US)


def device_time(
    *, devices: int | None = None, wall_s: Number | None = None, device_s: Number | None = None
) -> DeviceTime:
    """Device time from a count and wall seconds, or from device-seconds.

    >>> device_time(devices=8, wall_s=3600) == device_time(device_s=28_800)
    True

    Raises:
        InvalidInput: both forms at once, half of one, a negative time, or a count below 1.
    """
    if device_s is not None:
        if devices is not None or wall_s is not None:
            raise InvalidInput(
                f"Device time is given twice: {device_s} device-seconds are multiplied already.",
                hint="Give devices and wall_s, or device_s alone.",
            )
        total = exact(device_s)
    elif devices is None or wall_s is None:
        raise InvalidInput("Device time needs devices and wall_s, or device_s alone.")
    elif type(devices) is not int or devices < 1:
        raise InvalidInput(f"A count of devices is a whole number from 1, found {devices!r}.")
    else:
        total = devices * exact(wall_s)
    if total < 0:
        raise InvalidInput(f"Device time is not negative, found {total} s.")
    return DeviceTime(round_half_even(total * SECOND_US))


@dataclass(frozen=True, slots=True, order=True)
class Energy:
    """Energy in millijoules."""

    energy_mj: int

    def __add__(self, other: "Energy") -> "Energy":
        if not isinstance(other, Energy):
            return NotImplemented
        return Energy(self.energy_mj + other.energy_mj)

    @property
    def kwh(self) -> Fraction:
        """Kilowatt-hours."""
        return Fraction(self.energy_mj, KWH_MJ)


def facility_energy(time: DeviceTime, power_w: Number, pue: Number = 1) -> Energy:
    """What devices at a constant power draw from the grid: time × watts × PUE.

    >>> facility_energy(device_time(device_s=54 * HOUR_S), 700, "1.32").kwh
    Fraction(6237, 125)

    Raises:
        InvalidInput: a negative power, or a PUE below 1: the building would make energy.
    """
    watts, factor = exact(power_w), exact(pue)
    if watts < 0 or factor < 1:
        raise InvalidInput(
            f"Power is not negative and PUE is at least 1, found {power_w} W and PUE {pue}."
        )
    return Energy(round_half_even(time.device_s * watts * factor * 1000))


@dataclass(frozen=True, slots=True, order=True)
class Carbon:
    """Greenhouse gas in micrograms of CO2 equivalent; operational and embodied are kept apart."""

    carbon_ug: int

    def __add__(self, other: "Carbon") -> "Carbon":
        if not isinstance(other, Carbon):
            return NotImplemented
        return Carbon(self.carbon_ug + other.carbon_ug)

    @property
    def grams(self) -> Fraction:
        """Grams."""
        return Fraction(self.carbon_ug, GRAM_UG)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in billionths of one currency; there is no exchange rate."""

    amount_nano: int
    currency: str

    def __add__(self, other: "Money") -> "Money":
        if not isinstance(other, Money):
            return NotImplemented
        if self.currency != other.currency:
            raise InvalidInput(
                f"{self.currency} and {other.currency} cannot be added.",
                hint="A ledger has one currency.",
            )
        return Money(self.amount_nano + other.amount_nano, self.currency)

    @property
    def amount(self) -> Fraction:
        """Whole units of the currency."""
        return Fraction(self.amount_nano, NANO)
