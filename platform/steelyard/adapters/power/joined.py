"""Several meters as one, and the one that stands where there is none."""

from collections.abc import Sequence

from steelyard.domain.power import Reading
from steelyard.ports.power_meter import PowerMeter


class JoinedMeter:
    """All domains of several meters: processors and GPUs are different energy, so they add."""

    def __init__(self, meters: Sequence[PowerMeter]) -> None:
        self._meters = meters

    @property
    def boundary(self) -> tuple[str, ...]:
        """Every domain of every meter."""
        return tuple(domain for meter in self._meters for domain in meter.boundary)

    @property
    def about(self) -> str:
        """What each of them says."""
        return ", ".join(meter.about for meter in self._meters)

    def read(self) -> Reading:
        """All readings as one."""
        readings = [meter.read() for meter in self._meters]
        counters = tuple(counter for reading in readings for counter in reading.counters)
        return Reading(counters, {k: v for reading in readings for k, v in reading.holders.items()})


class AbsentMeter:
    """Where there is no meter: it reads nothing, so energy is unknown, and says why."""

    def __init__(self, reason: str) -> None:
        self.boundary: tuple[str, ...] = ()
        self.about = reason

    def read(self) -> Reading:
        """No counter."""
        return Reading((), {})
