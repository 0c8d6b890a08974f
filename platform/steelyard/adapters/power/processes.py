"""CPU time of the node and of single processes, from Linux' ``/proc``.

A process is named by its id and the moment it started (in clock ticks since boot), so that an id
that is used again is not taken for the process before.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from steelyard.domain.power import Snapshot
from steelyard.ports.power_meter import PowerMeter

Process = tuple[int, int]
"""Process id and start, in clock ticks since boot."""
PROC = Path("/proc")
BUSY_FIELDS = (0, 1, 2, 5, 6)
"""user, nice, system, irq, softirq; guests are inside user, waiting and stolen time is no work."""
UTIME, STIME, STARTED = 11, 12, 19
"""Fields of ``/proc/PID/stat`` counted from the one after the name."""


def boot_id() -> str:
    """What names this machine until it restarts; the same in all of its containers."""
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identified(pids: Iterable[int]) -> tuple[Process, ...]:
    """The processes with these ids that run now."""
    found = ((pid, _fields(pid)) for pid in pids)
    return tuple((pid, int(fields[STARTED])) for pid, fields in found if fields is not None)


def runs(process: Process) -> bool:
    """Whether this very process still runs."""
    fields = _fields(process[0])
    return fields is not None and int(fields[STARTED]) == process[1]


class Node:
    """This machine: its meter and its processors' time, read together."""

    def __init__(self, meter: PowerMeter, monotonic_us: Callable[[], int]) -> None:
        self.meter = meter
        self._now_us = monotonic_us

    def snapshot(self, processes: Iterable[Process]) -> Snapshot:
        """Everything now; processes that are gone, and counters that fail, are left out."""
        cpu_us = {p[0]: used for p in processes if (used := _used_us(p)) is not None}
        busy_us = _busy_us()
        reading = self.meter.read()
        return Snapshot(self._now_us(), reading, os.cpu_count() or 1, busy_us, cpu_us)


def _busy_us() -> int:
    first = (PROC / "stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    return _us(sum(int(first[field]) for field in BUSY_FIELDS))


def _used_us(process: Process) -> int | None:
    fields = _fields(process[0])
    if fields is None or int(fields[STARTED]) != process[1]:
        return None
    return _us(int(fields[UTIME]) + int(fields[STIME]))


def _fields(pid: int) -> list[str] | None:
    """The fields after the name, which may hold blanks and brackets; None: it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _us(ticks: int) -> int:
    return ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")
