"""The reading end of the files in which replicas count what keys ask."""

from pathlib import Path

from steelyard.domain.key_counters import NUMBERS, Asked, asked

WIDTH = 8


def read_asked(folder: Path, now_us: int) -> dict[str, Asked]:
    """By key id: what each key asked this machine; a count is at most one request behind."""
    found = {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    whole = {name: data for name, data in found.items() if len(data) == NUMBERS * WIDTH}
    return asked({n: tuple(memoryview(data).cast("q")) for n, data in whole.items()}, now_us)
