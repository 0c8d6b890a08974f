"""The memory that processes of this machine have to themselves."""

from collections.abc import Iterable
from contextlib import suppress

import psutil


def unique_bytes(pids: Iterable[int]) -> int | None:
    """Their unique memory together; None when none of them can be looked at.

    Unique, because what processes share would be counted once for each.
    """
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found.append(psutil.Process(pid).memory_full_info().uss)
    return sum(found) if found else None
