"""How far the collector is behind, as the spool's folder shows it without being read."""

from contextlib import suppress
from pathlib import Path


class SpoolState:
    """The spool of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def oldest_us(self) -> int | None:
        """When the oldest segment that waits was closed; None when none waits."""
        times = []
        for path in self._directory.glob("*.jsonl"):
            with suppress(FileNotFoundError):  # it was collected meanwhile
                times.append(path.stat().st_mtime_ns // 1_000)
        return min(times, default=None)

    def damaged(self) -> int:
        """How many segments were kept aside because they could not be read."""
        return sum(1 for _ in self._directory.glob("*.damaged"))
