"""The right to book this node: one process has it, whatever platforms run on the machine.

The lock is on the hardware's own entry in the file system, not on a file of ours: it is the same
for every home and user, asks for no permission to write, and goes when its process does. Two
containers that do not share ``/sys`` and ``/proc`` do not see each other's; let one of them meter.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Stands for the machine's GPUs, which have no entry of their own that all users may open."""


def places(boundary: Sequence[str], powercap_root: Path) -> tuple[Path, ...]:
    """What a meter with these domains has to hold."""
    gpus = [domain for domain in boundary if domain.startswith("gpu:")]
    processors = len(gpus) < len(boundary)
    return (*((powercap_root,) if processors else ()), *((BOOT,) if gpus else ()))


class NodeClaim:
    """An exclusive lock on all ``places``, or on none."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._held: list[int] = []

    def acquire(self) -> bool:
        """Take it if it is free; whether this process has it. Does not wait."""
        if self._held:
            return True
        for place in self._places:
            handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            self._held.append(handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                return False
        return bool(self._held)

    def release(self) -> None:
        """Let another process have it."""
        while self._held:
            os.close(self._held.pop())
