"""One transaction's worth of postings: which still hold, their numbers, their place in the chain.

Everything is looked up and written in bulk: a statement for each entry would cost more than the
entries' hashes and triggers together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Insert, Table, delete, func, select

from steelyard.adapters.sql.insert import chunks, insert_for, insert_rows
from steelyard.adapters.sql.periods import booking
from steelyard.adapters.sql.rollups import Whose, add_entries, owned
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.hash_chain import GENESIS, canonical, link_bytes
from steelyard.domain.ledger import (
    FORMAT,
    Account,
    Batch,
    Posting,
    Transfer,
    entry_key,
    hashed_row,
    period_of,
)

AccountIds = dict[tuple[str, str], int]


class Appender:
    """Collects postings in an open write transaction, then writes them all."""

    def __init__(self, connection: Connection, now_us: int, known: AccountIds) -> None:
        self._connection = connection
        self._now_us = now_us
        self._known = known
        self.new_accounts: AccountIds = {}
        self._books: dict[str, tuple[str, int, bool]] = {}
        self._batches: list[Batch] = []
        self._marks: dict[str, str] = {}
        self._late: list[str] = []
        self._whose: Whose = {}
        self._superseded: list[str] = []

    def add(self, postings: Sequence[Posting]) -> None:
        """Take what still holds; what somebody else posted meanwhile is left out."""
        batches = [batch for posting in postings for batch in posting.batches]
        revisions = self._revisions([*(b.subject for b in batches),
                                     *(b for p in postings for b in p.replaces)])  # fmt: skip
        windows = [key for posting in postings for key in posting.windows]
        charged = _values(self._connection, ledger.posted_window, "idem_key", windows)
        gone = _values(self._connection, measured.superseded_window, "idem_key", windows)
        owned = self._owned({one for posting in postings for one in posting.owners})
        for posting in postings:
            if posting.revision is not None:
                first = posting.batches[0]
                if posting.revision != revisions.get((first.method_id, first.subject), 0):
                    continue
            if not posting.replaces and charged.intersection(posting.windows):
                continue
            if gone.intersection(posting.windows):
                continue
            if any(revisions.get((REVERSAL, batch_id)) for batch_id in posting.replaces):
                continue
            if any(owned.get(one, 0) != number for one, number in posting.owners.items()):
                continue
            charged.update(posting.windows)
            for batch_id in posting.replaces:
                self._take(self._reversal(batch_id, posting), revisions)
            taken = [self._take(batch, revisions) for batch in posting.batches]
            self._marks |= {key: taken[0] for key in posting.windows}
            self._late += posting.late
            self._superseded += posting.superseded

    def _take(self, batch: Batch, revisions: dict[tuple[str, str], int]) -> str:
        key = (batch.method_id, batch.subject)
        number = revisions.get(key, 0)
        revisions[key] = number + 1
        _, end_us, late = self._booked(batch)
        self._batches.append(replace(
            batch, revision=number, kind="correction" if late else batch.kind,
            period_end_us=min(batch.period_end_us, end_us),
        ))  # fmt: skip
        return self._batches[-1].batch_id

    def _booked(self, batch: Batch) -> tuple[str, int, bool]:
        month = period_of(batch.period_start_us)[0]
        if month not in self._books:
            self._books[month] = booking(self._connection, batch.period_start_us, self._now_us)
        return self._books[month]

    def _revisions(self, subjects: Iterable[str]) -> dict[tuple[str, str], int]:
        b, wanted = ledger.batch, sorted(set(subjects))
        found: dict[tuple[str, str], int] = {}
        for chunk in chunks(wanted):
            query = (
                select(b.c.method_id, b.c.subject, func.count())
                .where(b.c.subject.in_(chunk))
                .group_by(b.c.method_id, b.c.subject)
            )
            found |= {(row[0], row[1]): row[2] for row in self._connection.execute(query)}
        return found

    def _owned(self, resources: Iterable[str]) -> dict[str, int]:
        o, wanted = measured.resource_owner, sorted(resources)
        found: dict[str, int] = {}
        for chunk in chunks(wanted):
            query = (
                select(o.c.resource_id, func.count())
                .where(o.c.resource_id.in_(chunk))
                .group_by(o.c.resource_id)
            )
            found |= {row[0]: row[1] for row in self._connection.execute(query)}
        return found

    def _reversal(self, batch_id: str, posting: Posting) -> Batch:
        """The mirror image of a batch."""
        row = self._connection.execute(
            select(ledger.batch).where(ledger.batch.c.batch_id == batch_id)
        ).one()
        transfers = tuple(stored_transfers(self._connection, batch_id))
        mirrored = tuple(
            replace(one, debit=one.credit, credit=one.debit, reverses=seq) for seq, one in transfers
        )
        return Batch(
            kind="reversal", method_id=REVERSAL, method_version=1, subject=batch_id,
            period_start_us=row.period_start_us, period_end_us=row.period_end_us,
            inputs_sha256=row.batch_sha256, created_by=posting.actor, reason=posting.reason,
            transfers=mirrored,
        )  # fmt: skip

    def write(self) -> int:
        """Write batches, entries, marks and sums; the number of entries."""
        if not self._batches:
            return 0
        insert_rows(self._connection, ledger.batch, [self._batch_row(b) for b in self._batches])
        rows = list(self._entries(self._account_ids()))
        if rows:
            insert_rows(self._connection, ledger.entry, rows)
            add_entries(self._connection, rows, self._whose)
        self._mark()
        return len(rows)

    def _batch_row(self, batch: Batch) -> dict[str, Any]:
        row = {c.name: getattr(batch, c.name, None) for c in ledger.batch.columns}
        return {**row, "created_us": self._now_us}

    def _entries(self, accounts: AccountIds) -> Iterable[dict[str, Any]]:
        last = self._connection.execute(
            select(ledger.entry.c.seq, ledger.entry.c.hash)
            .order_by(ledger.entry.c.seq.desc())
            .limit(1)
        ).one_or_none()
        seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
        for batch in self._batches:
            period_id = self._booked(batch)[0]
            batch_id, batch_sha256 = batch.batch_id, batch.batch_sha256
            for line, transfer in enumerate(batch.transfers, start=1):
                seq += 1
                row: dict[str, Any] = {
                    "seq": seq, "v": FORMAT, "batch_id": batch_id, "batch_sha256": batch_sha256,
                    "idem_key": entry_key(batch_id, line), "unit": transfer.unit,
                    "amount": transfer.amount, "debit": transfer.debit.path,
                    "credit": transfer.credit.path, "period_id": period_id,
                    "period_start_us": batch.period_start_us,
                    "period_end_us": batch.period_end_us, "recorded_us": self._now_us,
                    "price_id": transfer.price_id, "coef_ids": list(transfer.coef_ids),
                    "tier": transfer.tier, "reverses_seq": transfer.reverses,
                }  # fmt: skip
                content = canonical(hashed_row(row))
                row["prev_hash"] = previous
                row["hash"] = previous = link_bytes(previous, content)
                row["content_sha256"] = _content(content, seq, self._now_us)
                row["coef_ids"] = ",".join(transfer.coef_ids)
                row["debit_account"] = accounts[row.pop("debit"), transfer.unit]
                row["credit_account"] = accounts[row.pop("credit"), transfer.unit]
                del row["batch_sha256"]
                yield row

    def _account_ids(self) -> AccountIds:
        wanted: dict[tuple[str, str], Account] = {}
        for batch in self._batches:
            for one in batch.transfers:
                wanted[one.debit.path, one.unit] = one.debit
                wanted[one.credit.path, one.unit] = one.credit
        ids = {key: self._known[key] for key in wanted if key in self._known}
        a, paths = (
            ledger.account,
            sorted({path for path, unit in wanted if (path, unit) not in ids}),
        )
        for chunk in chunks(paths):
            query = select(a.c.path, a.c.unit, a.c.account_id).where(a.c.path.in_(chunk))
            ids |= {(r.path, r.unit): r.account_id for r in self._connection.execute(query)}
        missing = [key for key in wanted if key not in ids]
        if missing:
            first = (self._connection.execute(select(func.max(a.c.account_id))).scalar() or 0) + 1
            ids |= {key: first + n for n, key in enumerate(missing)}
            rows = [_account_row(ids[key], key[1], wanted[key]) for key in missing]
            insert_rows(self._connection, a, rows)
        self.new_accounts = ids
        self._whose = {ids[key]: owned(one, key[1]) for key, one in wanted.items()}
        return ids

    def _mark(self) -> None:
        """Remember which batch charged each window, if any still does; late usage is in now."""
        for chunk in chunks(self._superseded):
            for table in (ledger.posted_window, measured.waiting_window):
                self._connection.execute(delete(table).where(table.c.idem_key.in_(chunk)))
        for chunk in chunks(self._late):
            self._connection.execute(
                delete(measured.late_usage).where(measured.late_usage.c.idem_key.in_(chunk))
            )
        if not self._marks:
            return
        keys, w = list(self._marks), measured.waiting_window
        for chunk in chunks(keys):
            self._connection.execute(delete(w).where(w.c.idem_key.in_(chunk)))
        rows = [{"idem_key": key, "batch_id": batch} for key, batch in self._marks.items()]
        insert_rows(self._connection, _charging(self._connection.dialect.name), rows)


@lru_cache
def _charging(dialect: str) -> Insert:
    new = insert_for(dialect, ledger.posted_window)
    newest = {"batch_id": new.excluded.batch_id}
    return new.on_conflict_do_update(index_elements=["idem_key"], set_=newest)


def _content(row: bytes, seq: int, recorded_us: int) -> str:
    """``content_sha256`` of a row whose canonical bytes are known.

    Its place and time are cut out of the bytes: to write them again is a third of the work of an
    entry. Quotes inside strings are escaped, so nothing else looks like these two keys.
    """
    without = row.replace(b'"recorded_us":"%d",' % recorded_us, b"", 1)
    return sha256(without.replace(b'"seq":%d,' % seq, b"", 1)).hexdigest()


REVERSAL = "reversal"
"""The method of batches that take another one back; their subject is its id."""


def stored_transfers(connection: Connection, batch_id: str) -> Iterable[tuple[int, Transfer]]:
    """The entries of a batch as (number, transfer), in order."""
    e = ledger.entry
    rows = connection.execute(
        select(e).where(e.c.batch_id == batch_id).order_by(e.c.seq)
    ).mappings().all()  # fmt: skip
    ids = {row["debit_account"] for row in rows} | {row["credit_account"] for row in rows}
    accounts = {
        row.account_id: account(row)
        for row in connection.execute(
            select(ledger.account).where(ledger.account.c.account_id.in_(ids))
        )
    }
    for row in rows:
        yield row["seq"], Transfer(
            row["unit"], row["amount"], accounts[row["debit_account"]],
            accounts[row["credit_account"]], row["price_id"], coef_ids(row["coef_ids"]),
            row["tier"], row["reverses_seq"],
        )  # fmt: skip


def account(row: Any) -> Account:
    """The account of a stored row."""
    return Account(row.path, row.role, row.phase, row.model, row.version, row.activity, row.run_id)


def coef_ids(text: str) -> tuple[str, ...]:
    """The coefficients that a stored entry cites."""
    return tuple(text.split(",")) if text else ()


def _account_row(account_id: int, unit: str, one: Account) -> dict[str, Any]:
    return {"account_id": account_id, "path": one.path, "unit": unit, "role": one.role,
            "phase": one.phase, "model": one.model, "version": one.version,
            "activity": one.activity, "run_id": one.run_id}  # fmt: skip


def _values(
    connection: Connection, table: Table, column: str, keys: Sequence[str]
) -> set[str]:  # fmt: skip
    found: set[str] = set()
    for chunk in chunks(keys):
        query = select(table.c[column]).where(table.c[column].in_(chunk))
        found |= set(connection.execute(query).scalars())
    return found
