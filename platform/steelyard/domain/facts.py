"""Everything a producer may report."""

from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import SegmentSeal
from steelyard.domain.hash_chain import digest
from steelyard.domain.metering import (
    BootEnd,
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)

AHEAD_US = 24 * 3600 * 1_000_000
"""How far a producer's clock may be ahead of the ledger's."""

Fact = (
    Resource | ResourceEnd | SupplyWindow | UsageWindow | BootEnd | RunAttempt | PredictionRecord
    | SegmentSeal
)  # fmt: skip


def latest_us(fact: Fact) -> int:
    """The latest moment that a fact speaks of.

    >>> latest_us(BootEnd("p", "boot", 7, ended_us=5))
    5
    """
    names = ("started_us", "ended_us", "window_end_us", "received_us")
    return max(getattr(fact, name, None) or 0 for name in names)


def content_sha256(window: SupplyWindow | UsageWindow) -> str:
    """Digest of a window's content: the same key with another one is a conflict.

    A datatype that is not known is left out, so that windows from before there was one keep
    their digest.
    """
    row = {name: getattr(window, name) for name in window.__dataclass_fields__}
    if row.get("datatype", "") is None:
        del row["datatype"]
    return digest(row)
