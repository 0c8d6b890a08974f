"""The rules that a replica goes by: the signed snapshot in the run folder, looked at now and then.

Between two looks nothing is read, so that ``current`` may be called in every request.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

from steelyard.domain.errors import SteelyardError
from steelyard.domain.serving_snapshot import Snapshot, opened
from steelyard.settings import Settings

INTERVAL_S = 1.0
"""Seconds between two looks at the file."""
log = logging.getLogger(__name__)

_Seen = tuple[int, int, int]
"""What tells two files apart without reading them: inode, size, time of change in ns."""


class Rules:
    """What the controller last wrote; the last good one where it cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.run_dir / "serving.snapshot"
        self._secret_file = settings.secret_dir / "serving.key"
        self._require_keys = settings.require_keys
        # Nobody has a key yet: where one is needed, all are refused until there is a snapshot.
        self._snapshot = Snapshot(require_keys=settings.require_keys)
        self._seen: _Seen | None = None
        self._look_s = float("-inf")
        self._complaint: str | None = None

    def current(self, now_monotonic: float) -> Snapshot:
        """The snapshot to go by now; ``now_monotonic`` is ``time.monotonic()``, in seconds."""
        if now_monotonic >= self._look_s:
            self._look_s = now_monotonic + INTERVAL_S
            self._look()
        return self._snapshot

    def _look(self) -> None:
        try:
            seen = _identity(self._file)
            if seen is None and self._seen is None:
                return  # None was written yet.
            if seen != self._seen:
                self._take(opened(self._file.read_bytes(), self._secret()))
                self._seen = seen
            self._complaint = None
        # Whatever is wrong with the file, the last good one is better than no answers.
        except (SteelyardError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._complain(error)

    def _take(self, snapshot: Snapshot) -> None:
        needed = snapshot.require_keys or self._require_keys
        self._snapshot = replace(snapshot, require_keys=needed)

    def _secret(self) -> bytes:
        return bytes.fromhex(self._secret_file.read_text(encoding="ascii").strip())

    def _complain(self, error: Exception) -> None:
        """Say it once, and again only if something else is wrong."""
        complaint = f"{type(error).__name__}: {error}"
        if complaint != self._complaint:
            self._complaint = complaint
            log.error("%s is not usable, the last good one stays: %s", self._file, complaint)


def _identity(file: Path) -> _Seen | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
