"""The edge's own guard: a canary that fails without a success between loses its share at once.

It holds for one weight table of one version, and in memory, as HAProxy's does: the controller sees
the same failures on record and makes another table.
"""

import time
from dataclasses import dataclass, field

from steelyard_serving.edge.canary import CONSECUTIVE, GUARD_MINUTES, UNITS
from steelyard_serving.python_edge.choice import Choice


@dataclass(slots=True)
class Row:
    """Failures in a row, the units they came from, and whether they were enough once."""

    failures: int = 0
    units: set[str] = field(default_factory=set)
    diverts: bool = False
    until: float = 0.0


class CanaryGuard:
    """The rows of this process's life."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def diverts(self, choice: Choice) -> bool:
        """Whether this canary's requests go to stable."""
        row = self._row(guarded(choice))
        return row is not None and row.diverts

    def count(self, choice: Choice, failed: bool | None) -> None:
        """What came of a canary's request; None: it says nothing of the version."""
        name = guarded(choice)
        row = self._row(name)
        if failed:
            row = self._rows.setdefault(name, Row())
            row.failures += 1
            row.units.add(choice.unit)
            row.until = time.monotonic() + GUARD_MINUTES * 60
            row.diverts |= row.failures >= CONSECUTIVE and len(row.units) >= UNITS
        elif failed is False and row is not None:
            row.failures = 0
            row.units.clear()

    def shown(self) -> dict[str, dict[str, int]]:
        """Every row by its name, with its counters named as in HAProxy's table."""
        rows = ((name, self._row(name)) for name in list(self._rows))
        return {
            name: {"gpt0": int(row.diverts), "gpc0": row.failures, "gpc1": len(row.units)}
            for name, row in rows
            if row is not None
        }

    def _row(self, name: str) -> Row | None:
        row = self._rows.get(name)
        if row is not None and row.until <= time.monotonic():
            del self._rows[name]
            return None
        return row


def guarded(choice: Choice) -> str:
    """A canary under one weight table: ``MODEL/VERSION/GENERATION``."""
    assert choice.route is not None, "a canary has a route"
    return f"{choice.model}/{choice.version}/{choice.route.generation}"
