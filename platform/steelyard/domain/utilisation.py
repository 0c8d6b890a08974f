"""Model FLOPs utilisation of what was metered: how near devices came to their dense peak."""

from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.compute import PEAK_DATATYPES, model_flops_utilisation, peak_key
from steelyard.domain.quantities import DeviceTime


@dataclass(frozen=True, slots=True)
class Work:
    """What windows computed on one device model in one datatype, while the devices were busy.

    ``flop`` sums those ``flop_windows`` of all ``windows`` that knew their FLOPs; None when none
    did. ``datatype`` is None when the producers did not say it.
    """

    device_model: str
    datatype: str | None
    flop: int | None
    flop_windows: int
    windows: int
    busy: DeviceTime

    @property
    def peak_key(self) -> str | None:
        """The key of the peak to compare with; None where none can be declared."""
        if self.datatype is None or self.datatype.lower() not in PEAK_DATATYPES:
            return None
        return peak_key(self.device_model, self.datatype)


def utilisation(work: Work, dense_peak: Fraction | None) -> tuple[Fraction | None, str | None]:
    """MFU over the busy device time of some work, or why it is not known, in words.

    Windows with unknown FLOPs leave it unknown: their time counts, their work is missing.
    """
    if work.flop is None:
        return None, "its FLOPs are not known"
    if work.flop_windows < work.windows:
        unknown = work.windows - work.flop_windows
        return None, f"{unknown} of {work.windows} windows did not know their FLOPs"
    if work.datatype is None:
        return None, "no datatype was measured with it"
    if work.peak_key is None:
        return None, f"{work.datatype} has no dense peak"
    if dense_peak is None:
        return None, f"no peak of {work.peak_key} is declared"
    found = model_flops_utilisation(work.flop, work.busy, dense_peak)
    return found, None if found is not None else "no device was busy"
