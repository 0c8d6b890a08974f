"""Time, handed in so that rules can be tested at any moment."""

from typing import Protocol


class Clock(Protocol):
    """Wall-clock time."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...
