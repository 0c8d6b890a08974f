"""Charging what nobody used of reserved capacity, an hour at a time."""

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from steelyard.domain.cost import HOUR_US
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.ledger import Batch, Posting, merge
from steelyard.domain.metering import Resource, ResourceEnd
from steelyard.domain.reservation import reserved_us, unused, unused_transfers

if TYPE_CHECKING:
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.adapters.sql.ledger import LedgerStore
    from steelyard.domain.rate_book import RateBook

METHOD = "reservation_idle"
GRACE_HOURS = 2
"""An hour is charged when its users have had this long to report."""
LOOK_BACK_HOURS = 48
"""Hours in which late reports still change what was unused."""


def declare(facts: "FactStore", reservation: Resource, until_us: int, now_us: int) -> None:
    """Put a reservation into the books, from its start to ``until_us``.

    Raises:
        InvalidInput: it ends before it begins.
        Refused: there is a reservation under this SKU.
    """
    sku = reservation.price_sku
    if until_us <= reservation.started_us:
        fault = Fault("--until", "is not after --from")
        raise InvalidInput(f"The reservation {sku} ends before it begins.", (fault,))
    if any(known.price_sku == sku for known, _ in facts.reservations()):
        raise Refused(
            f"There is a reservation {sku!r}, and what was declared stays.",
            "Give another one its own SKU, with its own price.",
        )
    facts.ingest([reservation, ResourceEnd(reservation.resource_id, until_us)], now_us)


def unused_capacity(
    facts: "FactStore", ledger: "LedgerStore", book: "RateBook", now_us: int
) -> Iterator[Posting]:
    """Postings for the hours of every reservation that are not charged, or not rightly so."""
    last = now_us // HOUR_US - GRACE_HOURS
    for reservation, ended_us in facts.reservations():
        first = reservation.started_us // HOUR_US
        charged = ledger.newest_charge(f"{reservation.resource_id}@", METHOD)
        if charged is not None:
            first = max(first, charged // HOUR_US - LOOK_BACK_HOURS)
        for hour in range(first, last):
            if reserved := reserved_us(reservation, ended_us, hour):
                used = facts.reserved_with(reservation.price_sku, hour * HOUR_US)
                posting = _hour(ledger, book, reservation, hour, reserved, used)
                if posting is not None:
                    yield posting


def _hour(
    ledger: "LedgerStore", book: "RateBook", reservation: Resource, hour: int, reserved: int,
    used: int,
) -> Posting | None:  # fmt: skip
    left = unused(reserved, used)
    transfers = merge(unused_transfers(reservation, left.unused_us, hour, book))
    subject = f"{reservation.resource_id}@{hour}"
    standing = [b for b in ledger.batches(subject) if not b.reversed]
    before = [t for b in standing for t in ledger.transfers(b.batch_id)]
    if standing and merge(before) == transfers:
        return None
    reason = f"{used} of {reserved} device-microseconds used"
    batch = Batch(
        kind="allocation", method_id=METHOD, method_version=1, subject=subject,
        period_start_us=hour * HOUR_US, period_end_us=(hour + 1) * HOUR_US,
        inputs_sha256=sha256(f"{subject}:{used}:{reserved}".encode()).hexdigest(),
        created_by="ledger", reason=reason, transfers=transfers,
    )  # fmt: skip
    return Posting(
        (batch,), replaces=tuple(b.batch_id for b in standing),
        revision=ledger.revision(METHOD, subject), reason=reason,
    )  # fmt: skip
