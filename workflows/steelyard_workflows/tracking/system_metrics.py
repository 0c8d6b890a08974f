"""How busy the driver's node is while a run goes on: CPU and memory, sampled by a thread."""

import time
from collections.abc import Callable

import psutil

from steelyard_workflows.beside import Beside

EVERY_S = 5.0
TOGETHER = 6
MEGABYTE = 10**6
Row = tuple[str, float, int, int]
"""Name, value, milliseconds since the epoch, step: the number of the sample."""


def sample(step: int) -> list[Row]:
    """One reading; its names are those under which MLflow shows system metrics.

    CPU is in per cent of all CPUs since the previous reading.
    """
    memory, at_ms = psutil.virtual_memory(), time.time_ns() // 1_000_000
    values = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_percentage": memory.percent,
        "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
    }
    return [(name, value, at_ms, step) for name, value in values.items()]


class Sampler(Beside):
    """Reads every ``EVERY_S`` seconds during a block, and hands over ``TOGETHER`` samples at once.

    What is left is handed over when the block ends, after a last sample.
    """

    def __init__(self, write: Callable[[list[Row]], None]) -> None:
        super().__init__("system metrics")
        self._write = write

    def _run(self) -> None:
        psutil.cpu_percent()  # a thread's first call has nothing to compare with
        rows: list[Row] = []
        step, going = 0, True
        while going:
            going = not self._done.wait(EVERY_S)
            rows += sample(step)
            step += 1
            if step % TOGETHER == 0 or not going:
                self._write(rows)
                rows = []
