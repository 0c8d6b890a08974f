"""NVML: the energy counters of NVIDIA GPUs, and which processes hold them.

Needs the extra ``steelyard[nvml]`` (nvidia-ml-py) and NVIDIA's driver. GPUs from Volta on count
energy themselves; for older ones power is sampled and summed, a weaker figure (tier 3, ±35 %).
"""

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from importlib import import_module
from typing import Any

from steelyard.adapters.power.joined import AbsentMeter
from steelyard.domain.power import Counter, Reading, sampled_uj
from steelyard.ports.power_meter import PowerMeter


class NvmlMeter:
    """``PowerMeter`` over the GPUs that ``library`` (the module ``pynvml``) sees.

    ``clock`` gives monotonic microseconds.

    Raises:
        library.NVMLError: the driver is not there or does not answer.
    """

    def __init__(self, library: Any, clock: Callable[[], int]) -> None:
        library.nvmlInit()
        self._library = library
        count = library.nvmlDeviceGetCount()
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        found = [_gpu(library, handle, clock) for handle in handles]
        self._gpus = [gpu for gpu in found if gpu is not None]

    @property
    def boundary(self) -> tuple[str, ...]:
        """Every GPU whose energy or power can be read, by its UUID."""
        return tuple(gpu.domain for gpu in self._gpus)

    @property
    def about(self) -> str:
        """How many GPUs are read, and how many of them only by sampling power."""
        if not self._gpus:
            return "no GPU that counts energy"
        sampled = sum(isinstance(gpu, SampledGpu) for gpu in self._gpus)
        return f"NVML ({len(self._gpus)} GPU{f', {sampled} by sampled power' if sampled else ''})"

    def read(self) -> Reading:
        """Counter and holders of every GPU that answers."""
        answers = []
        for gpu in self._gpus:
            with suppress(self._library.NVMLError):
                answers.append((gpu.counter(), gpu.holders()))
        counters = tuple(counter for counter, _ in answers)
        return Reading(counters, {counter.domain: held for counter, held in answers})


class CountingGpu:
    """A GPU with a counter of its own: millijoules since the driver was loaded."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle
        self._seen = 0
        self.domain = f"gpu:{library.nvmlDeviceGetUUID(handle)}"

    def counter(self) -> Counter:
        """The device's own figure."""
        energy_mj = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return Counter(self.domain, "counter_gpu", energy_mj * 1_000)

    def holders(self) -> dict[int, int | None]:
        """The processes that compute on it, each with its use since the last call.

        Use is the sum of the samples of its multiprocessor utilisation (percent); None when the
        device does not tell, as under MIG. Whoever holds it alone needs no such figure.
        """
        running = self._library.nvmlDeviceGetComputeRunningProcesses(self._handle)
        pids = sorted({process.pid for process in running})
        if len(pids) < 2:
            return dict.fromkeys(pids)
        use = self._use()
        return {pid: None if use is None else use.get(pid, 0) for pid in pids}

    def _use(self) -> dict[int, int] | None:
        library = self._library
        try:
            samples = library.nvmlDeviceGetProcessUtilization(self._handle, self._seen)
        except library.NVMLError as error:
            # The binding raises its "success" when the first call finds no sample to make room for.
            nothing_new = (library.NVML_SUCCESS, library.NVML_ERROR_NOT_FOUND)
            return {} if error.value in nothing_new else None
        self._seen = max((sample.timeStamp for sample in samples), default=self._seen)
        use: dict[int, int] = {}
        for sample in samples:
            use[sample.pid] = use.get(sample.pid, 0) + sample.smUtil
        return use


class SampledGpu(CountingGpu):
    """A GPU that only tells its present power: the sum of trapezoids between samples."""

    def __init__(self, library: Any, handle: Any, clock: Callable[[], int]) -> None:
        super().__init__(library, handle)
        self._clock = clock
        self._total_uj = Fraction(0)
        self._last = (clock(), self._power_mw())

    def counter(self) -> Counter:
        """The sum so far, from 0 when the meter started."""
        (then_us, before_mw), (now_us, after_mw) = self._last, (self._clock(), self._power_mw())
        self._total_uj += sampled_uj(before_mw, after_mw, now_us - then_us)
        self._last = (now_us, after_mw)
        return Counter(self.domain, "sampled_power", int(self._total_uj))

    def _power_mw(self) -> int:
        return int(self._library.nvmlDeviceGetPowerUsage(self._handle))


def _gpu(library: Any, handle: Any, clock: Callable[[], int]) -> CountingGpu | None:
    """The best source that a GPU offers; None when it tells neither energy nor power."""
    try:
        gpu = CountingGpu(library, handle)
        gpu.counter()
        return gpu
    except library.NVMLError:
        pass
    try:
        return SampledGpu(library, handle, clock)
    except library.NVMLError:
        return None


def open_meter(clock: Callable[[], int]) -> PowerMeter:
    """The meter of this machine's GPUs; one that reads nothing when there is none."""
    try:
        library = import_module("pynvml")
    except ImportError:
        return AbsentMeter("no NVML (the extra steelyard[nvml] is not installed)")
    try:
        return NvmlMeter(library, clock)
    except library.NVMLError as error:
        return AbsentMeter(f"no NVML ({error})")
