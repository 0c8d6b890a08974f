"""The sign that asks a run to end: a file beside its journal, put there by the controller.

The controller counts what a run takes (``spending``); rank 0 looks for the sign between steps and
tells the others with its vote.
"""

import time
from pathlib import Path

STOP_FILE = "stop"
LOOK_EVERY_S = 0.1


class StopSign:
    """A file whose appearance means stop; its text says why."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._next_look = 0.0
        self.reason: str | None = None

    def seen(self) -> bool:
        """Whether it is there; looks at most every ``LOOK_EVERY_S``."""
        now = time.monotonic()
        if self._path is None or self.reason is not None or now < self._next_look:
            return self.reason is not None
        self._next_look = now + LOOK_EVERY_S
        try:
            self.reason = self._path.read_text(encoding="utf-8")
        except OSError:  # not there, which is the rule
            return False
        return True


def raise_sign(path: Path, reason: str) -> None:
    """Ask for an end."""
    write_whole(path, reason)


def write_whole(path: Path, text: str) -> None:
    """Write a file of which a reader sees the whole text or none."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
