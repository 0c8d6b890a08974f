"""What a request costs on a version that may not have served yet. Pure and exact.

A version that served costs what the ledger says. Of any other, the part of a served version's
cost that is the model's own computing shrinks or grows with the model's time; the rest, a
replica's reading and writing, stays. Where nothing has served, only the computing is known.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from steelyard.domain.evidence import Evidence, Figures, Speed

Side = Literal["own", "parent"]
HOUR_MS = 3_600_000
CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class RequestCost:
    """Nano-USD of one request, on the basis ``usage``; None is unknown.

    ``low`` and ``high`` are the ledger's 95 % interval, from 14 complete ``days`` on. ``basis``
    says where the figure is from: ``ledger``, ``evidence`` (estimated), or ``unknown``.
    """

    value: Fraction | None = None
    low: Fraction | None = None
    high: Fraction | None = None
    basis: Literal["ledger", "evidence", "unknown"] = "unknown"
    days: int = 0


@dataclass(frozen=True, slots=True)
class Anchor:
    """A request of the version that others are estimated from, in nano-USD.

    ``whole`` is all of it, ``computing`` the part that follows the model's time; ``time`` is the
    version's own time as a multiple of the baseline's. ``source`` names where it is from.
    """

    whole: Fraction
    computing: Fraction
    time: Fraction
    source: str

    def at(self, time: Fraction) -> Fraction:
        """A request of a version that takes ``time`` of the baseline's time a row.

        >>> Anchor(Fraction(10), Fraction(6), Fraction(1), "digits/1").at(Fraction(1, 2))
        Fraction(7, 1)
        """
        return self.whole - self.computing + self.computing * time / self.time


def single(figures: Figures | None) -> Speed | None:
    """The speed at batch 1; None where it was not measured."""
    speeds = figures.speeds if figures else ()
    return next((speed for speed in speeds if speed.batch == 1), None)


def device_ms(evidence: Evidence, side: Side = "own") -> Fraction | None:
    """How long one row keeps the device, in milliseconds: what is charged for it.

    On a processor its CPU time, which other load on the machine does not change; on any other
    device the time of a call.
    """
    speed = single(evidence.own if side == "own" else evidence.parent)
    if speed is None:
        return None
    on_cpu = evidence.hardware.get("provider", CPU) == CPU
    return Fraction(str(speed.cpu_ms_per_row if on_cpu else speed.ms_p50))


def row_nano(time_ms: Fraction | None, price_nano: int | None) -> Fraction | None:
    """Nano-USD of so many milliseconds of a device at so many nano-USD an hour.

    >>> row_nano(Fraction(1, 2), 72_000_000)
    Fraction(10, 1)
    """
    if time_ms is None or price_nano is None:
        return None
    return time_ms * price_nano / HOUR_MS


def relative(evidence: Evidence, baseline: Evidence | None) -> Fraction | None:
    """A variant's device time as a multiple of its parent's, measured in the same run.

    Records of before the parent was timed too are held against the parent's own record.
    """
    own, theirs = device_ms(evidence), device_ms(evidence, "parent")
    if theirs is None and baseline is not None:
        theirs = device_ms(baseline)
    return own / theirs if own is not None and theirs else None


def anchor(
    cost: RequestCost, row: Fraction | None, rows: Fraction, time: Fraction, source: str
) -> Anchor | None:
    """The anchor that a version makes, from the ledger or from ``row`` alone.

    ``row`` is the price of one row's computing, ``rows`` those of a request. A request that
    cost less than its rows would one by one was computed in a batch: all of it is computing.
    """
    computing = None if row is None else row * rows
    whole = computing if cost.value is None else cost.value
    if whole is None or not time:
        return None
    return Anchor(whole, min(whole, whole if computing is None else computing), time, source)
