"""The energy meters of a node."""

from typing import Protocol

from steelyard.domain.power import Reading


class PowerMeter(Protocol):
    """Reads cumulative energy counters of the whole node; never of one process."""

    @property
    def boundary(self) -> tuple[str, ...]:
        """The domains inside its figures, e.g. ``package-0``, ``gpu:UUID``; none: no meter."""
        ...

    @property
    def about(self) -> str:
        """One line for people: what it reads, or why it reads nothing."""
        ...

    def read(self) -> Reading:
        """All counters now; one that cannot be read at the moment is left out."""
        ...
