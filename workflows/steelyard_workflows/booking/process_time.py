"""CPU time of the processes of one attempt, read from the operating system window by window."""

from collections.abc import Iterable

import psutil


class ProcessTime:
    """The growth of some processes' CPU time since the last look.

    ``pids`` are None when a process runs on another machine: then every answer is None, as it is
    from the moment that one of them is gone. A process that is older than ``since_us`` had other
    work before, so what it used up to the first look is not known.
    """

    def __init__(self, pids: Iterable[int] | None, since_us: int) -> None:
        self._processes: list[psutil.Process] | None = None
        self._total_us: int | None = 0
        if pids is None:
            return
        try:
            self._processes = [psutil.Process(pid) for pid in pids]
            if any(p.create_time() * 1e6 < since_us for p in self._processes):
                self._total_us = None
        except psutil.Error:
            self._processes = None

    def growth_us(self) -> int | None:
        """Microseconds since the last call, or since the start at the first one."""
        before, self._total_us = self._total_us, self._read()
        if before is None or self._total_us is None:
            return None
        return max(0, self._total_us - before)

    def _read(self) -> int | None:
        if self._processes is None:
            return None
        try:
            times = [process.cpu_times() for process in self._processes]
        except psutil.Error:
            return None
        return int(sum(t.user + t.system for t in times) * 1e6)
