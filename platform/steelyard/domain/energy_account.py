"""From the node's running totals to the energy of a producer's windows: each joule taken once.

The node's meter keeps an account a producer and adds to it; the producer remembers its place and,
when it closes a window, takes what has come since. What it has taken is *booked*; what it never
took goes back to the node. Both sides use the node's monotonic clock (``_us``).
"""

from dataclasses import dataclass, replace

from steelyard.domain.metering import EnergyMethod
from steelyard.domain.power import Share, weakest

UNIT_UJ = 1_000
"""Windows are booked in millijoules; the rest of a millijoule stays for the next one."""
STALE_AFTER = 3
"""Intervals without a new figure after which the meter counts as gone."""
SHORTEST = 2
"""Intervals that a measurement must last: the figures come once an interval."""


@dataclass(frozen=True, slots=True)
class Account:
    """What one meter has attributed to one producer since ``since_us``, up to ``until_us``.

    ``gaps`` counts intervals whose energy is not known, ``method`` is the weakest so far.
    """

    meter: str
    since_us: int
    until_us: int
    interval_us: int
    energy_uj: int = 0
    gaps: int = 0
    method: EnergyMethod = "unknown"

    def plus(self, share: Share, until_us: int) -> "Account":
        """The account after one more interval."""
        if share.energy_uj is None:
            return replace(self, gaps=self.gaps + 1, until_us=until_us)
        known = [method for method in (self.method, share.method) if method != "unknown"]
        return replace(self, energy_uj=self.energy_uj + share.energy_uj, until_us=until_us,
                       method=weakest(known))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Position:
    """How far a producer has read its account with ``meter``, and what it has booked of it.

    ``broken``: a window was closed without a figure, so what has come since is not one window's.
    """

    since_us: int
    meter: str = ""
    energy_uj: int = 0
    booked_uj: int = 0
    gaps: int = 0
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Metered:
    """Energy of one window as a supply window takes it: None exactly when ``unknown``."""

    energy_mj: int | None = None
    method: EnergyMethod = "unknown"

    @property
    def boundary(self) -> str | None:
        """What the figure contains: counters see their own chip, not the machine around it."""
        return None if self.energy_mj is None else "chip"


UNKNOWN = Metered()


def take(
    position: Position, account: Account | None, now_us: int, window_us: int
) -> tuple[Metered, Position]:
    """Close a window of ``window_us``: its energy, and the place after it.

    Unknown when there is no account, when its figures are old, when an interval in it is not
    known, when another meter took over, or when it was not measured over the window's length.
    The energy of a window that stays unknown is booked all the same: the ledger will estimate
    that window, and a joule must not be there twice.
    """
    if account is None or now_us - account.until_us > STALE_AFTER * account.interval_us:
        return UNKNOWN, replace(position, broken=True)
    before = _in_account(position, account)
    energy_mj = max(0, account.energy_uj - before.energy_uj) // UNIT_UJ
    whole = (
        not before.broken
        and account.gaps == before.gaps
        and account.method != "unknown"
        and _covered(now_us - before.since_us, window_us, account.interval_us)
    )
    after = replace(
        before, energy_uj=before.energy_uj + energy_mj * UNIT_UJ,
        booked_uj=before.booked_uj + energy_mj * UNIT_UJ, gaps=account.gaps, broken=False,
    )  # fmt: skip
    return (Metered(energy_mj, account.method) if whole else UNKNOWN), after


def skip(position: Position, account: Account | None, now_us: int) -> Position:
    """Leave out what has come until now: nobody's window; it goes back to the node."""
    if account is None:
        return replace(position, since_us=now_us)
    before = _in_account(position, account)
    return replace(before, since_us=now_us, energy_uj=account.energy_uj, gaps=account.gaps,
                   broken=False)  # fmt: skip


def unread_uj(account: Account, meter: str, booked_uj: int) -> int:
    """What a producer that has ended leaves to the node; ``booked_uj`` was said to ``meter``."""
    return account.energy_uj - (booked_uj if meter == account.meter else 0)


def _in_account(position: Position, account: Account) -> Position:
    if position.meter == account.meter:
        return position
    since_us = max(position.since_us, account.since_us)
    return Position(since_us, account.meter, broken=position.broken)


def _covered(measured_us: int, window_us: int, interval_us: int) -> bool:
    edge_us = SHORTEST * interval_us
    return measured_us >= edge_us and measured_us + edge_us >= window_us
