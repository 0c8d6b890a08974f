"""The check of the ledger: recompute everything that is derived, name the first entry that fails.

The chain's hashes cover an entry, the digest of its batch and the paths of its accounts. What
they do not cover by themselves is compared with what they do.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.appending import REVERSAL, account, coef_ids
from steelyard.adapters.sql.rollups import folded
from steelyard.adapters.sql.sources import Charged, changed_sources
from steelyard.adapters.sql.tables import ledger
from steelyard.domain.accounts import holds
from steelyard.domain.hash_chain import Break, first_break
from steelyard.domain.ledger import (
    ALLOCATION,
    Batch,
    content_sha256,
    entry_key,
    hashed_row,
    period_of,
)


def find_break(connection: Connection) -> Break | None:
    """The first entry that does not hold, or None.

    Checked are the chain, the digests of entries and batches, the accounts' columns, the
    published heads, the periods and their totals, that balances equal the entries, and the
    windows, prices and coefficients that entries rest on.
    """
    walk = _Walk(connection)
    # For this statement only: set on the connection, it would hold for those below too.
    with connection.execute(entry_query(), execution_options={"yield_per": 2_000}) as rows:
        broken = first_break(walk.row(entry_dict(row)) for row in rows.mappings())
    if broken is None or (walk.first and walk.first.seq < broken.seq):
        broken = walk.first or broken
    return broken or next(_other_breaks(connection, walk), None)


def entry_query() -> Any:
    """Every entry in order, with its batch's digest and its accounts' paths."""
    e, b = ledger.entry, ledger.batch
    debit, credit = ledger.account.alias("debit_side"), ledger.account.alias("credit_side")
    # Outer joins: an entry whose account or batch is gone must be found, not left out.
    return (
        select(e, b.c.batch_sha256, debit.c.path.label("debit"), credit.c.path.label("credit"))
        .outerjoin(b, b.c.batch_id == e.c.batch_id)
        .outerjoin(debit, debit.c.account_id == e.c.debit_account)
        .outerjoin(credit, credit.c.account_id == e.c.credit_account)
        .order_by(e.c.seq)
    )


def entry_dict(row: Any) -> dict[str, Any]:
    """A stored entry as it is hashed and exported."""
    return {**row, "coef_ids": list(coef_ids(row["coef_ids"]))}


class _Walk:
    """Goes through the entries once and checks what the chain's hashes do not cover."""

    def __init__(self, connection: Connection) -> None:
        self._batches = {
            row["batch_id"]: row for row in connection.execute(select(ledger.batch)).mappings()
        }
        accounts = connection.execute(select(ledger.account)).all()
        self._units = {row.account_id: row.unit for row in accounts if holds(account(row))}
        self._lines: Counter[str] = Counter()
        self.hashes: dict[int, str] = {}
        self.firsts: dict[str, int] = {}
        self.periods: dict[str, int] = {}
        self.first: Break | None = None

    def row(self, row: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
        """What the chain's check needs of a row."""
        self._lines[row["batch_id"]] += 1
        self.firsts.setdefault(row["batch_id"], row["seq"])
        self.hashes[row["seq"]] = row["hash"]
        self.periods[row["period_id"]] = row["seq"]
        if self.first is None:
            what = self._fault(row, self._lines[row["batch_id"]])
            self.first = Break(row["seq"], what) if what else None
        return hashed_row(row), row["prev_hash"], row["hash"]

    def charged(self) -> dict[str, Charged]:
        """The batches that charged windows."""
        taken = {r["subject"] for r in self._batches.values() if r["method_id"] == REVERSAL}
        return {
            key: Charged(
                self.firsts.get(key, 0), row["inputs_sha256"], row["method_version"],
                stands=key in self.firsts and key not in taken,
            )
            for key, row in self._batches.items()
            if row["method_id"] == ALLOCATION
        }  # fmt: skip

    def emptied(self) -> str | None:
        """A batch without entries that does not have its digest."""
        unused = (one for key, one in self._batches.items() if key not in self._lines)
        wrong = (one for one in unused if _batch(one).batch_sha256 != one["batch_sha256"])
        return next((str(one["batch_id"]) for one in wrong), None)

    def _fault(self, row: Mapping[str, Any], line: int) -> str | None:
        batch = self._batches.get(row["batch_id"])
        if batch is None:
            return "its batch is missing"
        if content_sha256(row) != row["content_sha256"]:
            return "its content does not have the stored digest"
        if entry_key(row["batch_id"], line) != row["idem_key"]:
            return f"it is not line {line} of its batch"
        if line == 1 and (
            _batch(batch).batch_sha256 != row["batch_sha256"]
            or batch["created_us"] != row["recorded_us"]
        ):
            return "its batch was changed after it was written"
        for side in (row["debit_account"], row["credit_account"]):
            if self._units.get(side) != row["unit"]:
                return f"its account {side} was changed after it was written"
        return None


def _batch(row: Any) -> Batch:
    names = set(Batch.__dataclass_fields__) - {"transfers"}
    return Batch(**{name: row[name] for name in names}, transfers=())


def _other_breaks(connection: Connection, walk: _Walk) -> Iterator[Break]:
    for row in connection.execute(
        select(ledger.chain_head).order_by(ledger.chain_head.c.seq)
    ).all():
        if walk.hashes.get(row.seq) != row.hash:
            yield Break(row.seq, f"the head that was published on {row.day} is not in the chain")
    newest = max(walk.hashes, default=0)
    if walk.emptied():
        yield Break(newest, f"the batch {walk.emptied()} was changed after it was written")
    for row in connection.execute(select(ledger.period)).all():
        what = _period_fault(connection, row, walk.periods.get(row.period_id, 0))
        known = (row.closing_seq or 0) <= newest
        if what or not known:
            seq, what = row.closing_seq if known else newest, what or "was changed after it closed"
            yield Break(seq or newest, f"the period {row.period_id} {what}")
    b = projections.balance
    query = select(b.c.account_id, b.c.tier, b.c.amount).where(b.c.amount != 0)
    kept = {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}
    if kept != folded(connection):
        yield Break(newest, "the balances do not equal the entries; rebuild them")
    yield from changed_sources(connection, walk.charged())


def _period_fault(connection: Connection, row: Any, last_seq: int) -> str | None:
    if period_of(row.start_us) != (row.period_id, row.start_us, row.end_us):
        return "is not a calendar month"
    closing = (row.closed_us, row.closed_by, row.closing_seq, row.totals)
    if row.status != "closed":
        return None if closing == (None,) * 4 else "was opened again after it was closed"
    if None in closing or last_seq > row.closing_seq:
        return "was changed after it was closed"
    e = ledger.entry
    sums = select(e.c.unit, func.sum(e.c.amount)).where(e.c.period_id == row.period_id)
    found = {unit: int(amount) for unit, amount in connection.execute(sums.group_by(e.c.unit))}
    try:
        return None if found == json.loads(row.totals) else "has other totals than it was closed at"
    except ValueError:
        return "has totals that cannot be read"
