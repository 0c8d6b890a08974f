from dataclasses import replace
from fractions import Fraction

import pytest

from steelyard.domain.compute import computes_in
from steelyard.domain.model_version import FlopsProfile
from steelyard.domain.quantities import DeviceTime
from steelyard.domain.utilisation import Work, utilisation

PEAK = Fraction(989 * 10**12)
HOUR = DeviceTime(8 * 3_600 * 10**6)
WORK = Work("h100-sxm", "bf16", 8 * 3_600 * 989 * 10**12 // 4, 60, 60, HOUR)


def test_utilisation_is_over_busy_device_time() -> None:
    """A quarter of what eight devices could have done in their busy hour."""
    assert utilisation(WORK, PEAK) == (Fraction(1, 4), None)
    assert utilisation(replace(WORK, flop=0), PEAK) == (Fraction(0), None)


@pytest.mark.parametrize(
    ("work", "peak", "because"),
    [
        (replace(WORK, flop=None, flop_windows=0), PEAK, "its FLOPs are not known"),
        (replace(WORK, flop_windows=59), PEAK, "1 of 60 windows did not know their FLOPs"),
        (replace(WORK, datatype=None), PEAK, "no datatype was measured with it"),
        (replace(WORK, datatype="uint8"), PEAK, "uint8 has no dense peak"),
        (WORK, None, "no peak of h100-sxm/bf16 is declared"),
        (replace(WORK, busy=DeviceTime(0)), PEAK, "no device was busy"),
    ],
)
def test_what_is_not_known_is_a_reason_and_not_a_number(
    work: Work, peak: Fraction | None, because: str
) -> None:
    """A utilisation of 0 would say that the devices did nothing."""
    assert utilisation(work, peak) == (None, because)


def test_datatypes_are_written_as_peaks_are() -> None:
    """Registry and protocol say FP32, windows and peaks fp32; unknown stays unknown."""
    assert replace(WORK, datatype="BF16").peak_key == "h100-sxm/bf16"
    profile = FlopsProfile(1, 3, "counted", 1.0, datatype="FP32")
    assert computes_in(profile) == "fp32"
    assert computes_in(replace(profile, datatype=None)) is None
    assert computes_in(None) is None
