"""GPUs, from a library that plays back a trace: what NVML's functions answered, call by call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from steelyard.adapters.power.joined import AbsentMeter, JoinedMeter
from steelyard.adapters.power.nvml import NvmlMeter
from steelyard.domain.power import REST, Counter, Snapshot, apportion

SUCCESS, NOT_SUPPORTED, NOT_FOUND, GPU_IS_LOST = 0, 3, 6, 15
SECOND = 1_000_000


class TracedError(Exception):
    """NVML's error with its number."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


@dataclass(frozen=True)
class Process:
    """What NVML tells of a process on a GPU."""

    pid: int
    timeStamp: int = 0  # noqa: N815  # NVML's name
    smUtil: int = 0  # noqa: N815  # NVML's name


@dataclass
class Gpu:
    """One card's answers in order; a number below 0 is an error."""

    uuid: str
    energy_mj: Sequence[int] = (-NOT_SUPPORTED,) * 9
    power_mw: Sequence[int] = (-NOT_SUPPORTED,) * 9
    processes: Sequence[Process] = ()
    use: Sequence[Process] | int = NOT_SUPPORTED
    asked_since: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.energies, self.powers = iter(self.energy_mj), iter(self.power_mw)


class TracedNvml:
    """The functions of ``pynvml`` that the meter calls."""

    NVMLError = TracedError
    NVML_SUCCESS = SUCCESS
    NVML_ERROR_NOT_FOUND = NOT_FOUND

    def __init__(self, *gpus: Gpu, present: bool = True) -> None:
        self._gpus = gpus
        self._present = present

    def nvmlInit(self) -> None:  # noqa: N802
        """Fails where no driver is loaded."""
        if not self._present:
            raise TracedError(9)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """How many cards."""
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        """A card."""
        return self._gpus[index]

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:  # noqa: N802
        """Its name."""
        return gpu.uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: Gpu) -> int:  # noqa: N802
        """Millijoules."""
        return _next(gpu.energies)

    def nvmlDeviceGetPowerUsage(self, gpu: Gpu) -> int:  # noqa: N802
        """Milliwatts."""
        return _next(gpu.powers)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: Gpu) -> Sequence[Process]:  # noqa: N802
        """Who holds it."""
        return gpu.processes

    def nvmlDeviceGetProcessUtilization(  # noqa: N802
        self, gpu: Gpu, since: int
    ) -> Sequence[Process]:
        """Samples after a time stamp."""
        gpu.asked_since.append(since)
        if isinstance(gpu.use, int):
            raise TracedError(gpu.use)
        return gpu.use


def _next(values: Iterator[int]) -> int:
    value = next(values)
    if value < 0:
        raise TracedError(-value)
    return value


def clock() -> Iterator[int]:
    """A second a call, in microseconds."""
    yield from range(0, 100 * SECOND, SECOND)


def meter(*gpus: Gpu) -> NvmlMeter:
    """The meter of these cards."""
    return NvmlMeter(TracedNvml(*gpus), clock().__next__)


def test_a_card_with_a_counter_tells_microjoules() -> None:
    """NVML counts millijoules since the driver was loaded."""
    found = meter(Gpu("GPU-1", energy_mj=[100, 41_000, 41_350]))
    assert found.boundary == ("gpu:GPU-1",)
    assert found.about == "NVML (1 GPU)"
    assert found.read().counters == (Counter("gpu:GPU-1", "counter_gpu", 41_000_000),)
    assert found.read().counters == (Counter("gpu:GPU-1", "counter_gpu", 41_350_000),)


def test_an_old_card_is_sampled_and_says_so() -> None:
    """70 W, then 130 W a second later: 100 J, tier 3."""
    found = meter(Gpu("GPU-1", power_mw=[70_000, 130_000, 130_000]))
    assert found.read().counters == (Counter("gpu:GPU-1", "sampled_power", 100_000_000),)
    assert found.read().counters == (Counter("gpu:GPU-1", "sampled_power", 230_000_000),)
    assert found.about == "NVML (1 GPU, 1 by sampled power)"


def test_a_card_that_tells_nothing_is_outside_the_boundary() -> None:
    """Neither energy nor power: its energy is not in any figure, and the boundary shows it."""
    found = meter(Gpu("GPU-1"), Gpu("GPU-2", energy_mj=[1, 2]))
    assert found.boundary == ("gpu:GPU-2",)
    assert meter(Gpu("GPU-1")).about == "no GPU that counts energy"


def test_a_lost_card_is_left_out_of_the_reading() -> None:
    """It stays in the boundary, so that the reading counts as incomplete."""
    found = meter(Gpu("GPU-1", energy_mj=[1, -GPU_IS_LOST, 9]))
    assert found.read().counters == ()
    assert found.read().counters == (Counter("gpu:GPU-1", "counter_gpu", 9_000),)


def test_the_holder_of_a_card_needs_no_figure_of_its_use() -> None:
    """One process: NVML is not asked for samples, which old cards refuse."""
    gpu = Gpu("GPU-1", energy_mj=[1, 2], processes=[Process(7)])
    assert meter(gpu).read().holders == {"gpu:GPU-1": {7: None}}
    assert gpu.asked_since == []


def test_several_holders_come_with_their_use_since_the_last_reading() -> None:
    """Samples are summed, a process without a sample used nothing, none is counted twice."""
    gpu = Gpu(
        "GPU-1", energy_mj=[1, 2, 3, 4], processes=[Process(7), Process(8), Process(9)],
        use=[Process(7, 10, 30), Process(8, 11, 20), Process(7, 12, 40)],
    )  # fmt: skip
    found = meter(gpu)
    assert found.read().holders == {"gpu:GPU-1": {7: 70, 8: 20, 9: 0}}
    for nothing_new in (NOT_FOUND, SUCCESS):
        gpu.use = nothing_new
        assert found.read().holders == {"gpu:GPU-1": {7: 0, 8: 0, 9: 0}}
    assert gpu.asked_since == [0, 12, 12]


def test_use_that_the_card_does_not_tell_is_unknown() -> None:
    """As under MIG; unknown is not equal shares."""
    gpu = Gpu("GPU-1", energy_mj=[1, 2], processes=[Process(7), Process(8)], use=NOT_SUPPORTED)
    assert meter(gpu).read().holders == {"gpu:GPU-1": {7: None, 8: None}}


def test_a_driver_reload_makes_the_interval_unknown() -> None:
    """The counter starts again from 0: the energy over the reload is unknown, then known again."""
    gpu = Gpu("GPU-1", energy_mj=[9_000, 9_000, 12, 20], processes=[Process(7)])
    found = meter(gpu)
    first, reset, after = (
        Snapshot(n * SECOND, found.read(), 2, 0, {7: 0}) for n in range(3)
    )  # fmt: skip
    lost = apportion(first, reset, {7: "a"}, Fraction(0))
    assert (lost["a"].energy_uj, lost["a"].method) == (None, "unknown")
    assert lost[REST].energy_uj is None
    assert apportion(reset, after, {7: "a"}, Fraction(0))["a"].energy_uj == 8_000


def test_without_a_driver_there_is_no_meter() -> None:
    """The library is installed, the driver is not loaded."""
    with pytest.raises(TracedError):
        NvmlMeter(TracedNvml(present=False), clock().__next__)


def test_meters_of_different_devices_are_one() -> None:
    """Processors and cards add up; what is absent says why."""
    joined = JoinedMeter([AbsentMeter("no RAPL"), meter(Gpu("GPU-1", energy_mj=[1, 2]))])
    assert joined.boundary == ("gpu:GPU-1",)
    assert joined.about == "no RAPL, NVML (1 GPU)"
    assert len(joined.read().counters) == 1
