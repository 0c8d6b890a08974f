"""The store of entries: posting batches onto the chain, balances, and the check of the chain."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.domain.hash_chain import GENESIS, Break, first_break, link
from steelyard.domain.ledger import (
    Account,
    Batch,
    content_sha256,
    entry_key,
    hashed_row,
    period_of,
)


@dataclass(frozen=True, slots=True)
class Balance:
    """Debits − credits of one account in one unit, over everything posted."""

    account: Account
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: what an outside witness should remember."""

    seq: int
    hash: str


class LedgerStore:
    """Entries in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def post(self, batch: Batch, now_us: int, windows: Sequence[str] = ()) -> int:
        """Append a batch and mark the supply windows it came from.

        Returns the number of entries: 0, and nothing is written, when the batch or one of the
        windows was posted before, maybe by another process a moment ago. Raises IntegrityError,
        and writes nothing, when a trigger finds an entry unsound.
        """
        with suppress(_AlreadyPostedError), writing(self._engine) as connection:
            if not insert_new(connection, t.batch, [_batch_row(batch, now_us)], ("batch_id",)):
                raise _AlreadyPostedError
            rows = list(_chained(connection, batch, now_us))
            if rows:
                connection.execute(insert(t.entry), rows)
            marks = [{"idem_key": key, "batch_id": batch.batch_id} for key in windows]
            if len(insert_new(connection, t.posted_window, marks, ("idem_key",))) != len(marks):
                raise _AlreadyPostedError
            return len(rows)
        return 0

    def revision(self, kind: str, method_id: str, subject: str) -> int:
        """How many batches of this kind the subject has; the next one takes this number."""
        b = t.batch
        query = select(func.count()).where(
            b.c.kind == kind, b.c.method_id == method_id, b.c.subject == subject
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def balances(self, model: str | None = None) -> list[Balance]:
        """Balances per account and unit; all of one model when given."""
        a, e = t.account, t.entry
        debits = _sums(e.c.debit_account)
        credits = _sums(e.c.credit_account)
        query = (
            select(
                a, func.coalesce(debits.c.total, 0) - func.coalesce(credits.c.total, 0)
            )
            .outerjoin(debits, debits.c.account_id == a.c.account_id)
            .outerjoin(credits, credits.c.account_id == a.c.account_id)
            .order_by(a.c.path, a.c.unit)
        )  # fmt: skip
        if model is not None:
            query = query.where(a.c.model == model)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Balance(_account(row), row.unit, int(row[-1])) for row in rows]

    def movements(self, model: str, unit: str) -> list[tuple[int, str, str, int]]:
        """What was charged to a model over time: (charge end, phase, role, amount), in order."""
        a, e = t.account, t.entry
        sides = []
        for column, sign in ((e.c.debit_account, 1), (e.c.credit_account, -1)):
            query = (
                select(e.c.period_end_us, a.c.phase, a.c.role, sign * e.c.amount)
                .join(a, a.c.account_id == column)
                .where(a.c.model == model, e.c.unit == unit)
            )
            sides.append(query)
        with reading(self._engine) as connection:
            rows = [row for query in sides for row in connection.execute(query)]
        return sorted((row[0], row[1], row[2], int(row[3])) for row in rows)

    def head(self) -> Head | None:
        """The newest entry; None in an empty ledger."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(t.entry.c.seq, t.entry.c.hash).order_by(t.entry.c.seq.desc()).limit(1)
            ).one_or_none()
        return Head(row.seq, row.hash) if row else None

    def first_break(self) -> Break | None:
        """Recompute every hash; the first entry that does not hold, or None."""
        with (
            reading(self._engine) as connection,
            connection.execution_options(yield_per=2_000).execute(_entry_query()) as rows,
        ):
            return first_break(
                (hashed_row(row), row["prev_hash"], row["hash"])
                for row in map(_entry_dict, rows.mappings())
            )

    def entries(self) -> Iterator[dict[str, Any]]:
        """All entries with account paths, in order, for export."""
        with reading(self._engine) as connection:
            for row in connection.execute(_entry_query()).mappings():
                yield _entry_dict(row)

    def batch_of_window(self, resource_id: str, at_us: int) -> str | None:
        """The batch that charged a resource's window around a moment, if it was posted."""
        s, p = t.supply_window, t.posted_window
        query = (
            select(p.c.batch_id)
            .join(s, s.c.idem_key == p.c.idem_key)
            .where(
                s.c.resource_id == resource_id,
                s.c.window_start_us <= at_us,
                s.c.window_end_us >= at_us,
            )
            .limit(1)
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()


class _AlreadyPostedError(Exception):
    """Another poster took the batch or one of its windows; the transaction is rolled back."""


def _sums(column: Any) -> Any:
    return (
        select(column.label("account_id"), func.sum(t.entry.c.amount).label("total"))
        .group_by(column)
        .subquery()
    )


def _account(row: Any) -> Account:
    return Account(row.path, row.role, row.phase, row.model, row.version, row.activity, row.run_id)


def _batch_row(batch: Batch, now_us: int) -> dict[str, Any]:
    row = {c.name: getattr(batch, c.name, None) for c in t.batch.columns}
    return {**row, "created_us": now_us}


def _chained(connection: Connection, batch: Batch, now_us: int) -> Iterator[dict[str, Any]]:
    last = connection.execute(
        select(t.entry.c.seq, t.entry.c.hash).order_by(t.entry.c.seq.desc()).limit(1)
    ).one_or_none()
    seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
    period_id, start, end = period_of(now_us)
    insert_new(connection, t.period, [{"period_id": period_id, "start_us": start, "end_us": end,
                                       "status": "open"}], ("period_id",))  # fmt: skip
    accounts = _account_ids(connection, batch)
    for line, transfer in enumerate(batch.transfers, start=1):
        seq += 1
        row: dict[str, Any] = {
            "seq": seq, "batch_id": batch.batch_id, "batch_sha256": batch.batch_sha256,
            "idem_key": entry_key(batch.batch_id, line), "unit": transfer.unit,
            "amount": transfer.amount, "debit": transfer.debit.path,
            "credit": transfer.credit.path, "period_id": period_id,
            "period_start_us": batch.period_start_us, "period_end_us": batch.period_end_us,
            "recorded_us": now_us, "price_id": transfer.price_id,
            "coef_ids": list(transfer.coef_ids), "reverses_seq": None,
        }  # fmt: skip
        hashed = hashed_row(row)
        row["content_sha256"] = content_sha256(row)
        row["prev_hash"], row["hash"] = previous, link(previous, hashed)
        previous = row["hash"]
        row["debit_account"] = accounts[transfer.debit.path, transfer.unit]
        row["credit_account"] = accounts[transfer.credit.path, transfer.unit]
        row["coef_ids"] = ",".join(transfer.coef_ids)
        yield {c.name: row[c.name] for c in t.entry.columns}


def _account_ids(connection: Connection, batch: Batch) -> dict[tuple[str, str], int]:
    wanted = {
        (account.path, transfer.unit): account
        for transfer in batch.transfers
        for account in (transfer.debit, transfer.credit)
    }
    a = t.account
    query = select(a.c.path, a.c.unit, a.c.account_id).where(
        a.c.path.in_({path for path, _ in wanted})
    )
    known = {(r.path, r.unit): r.account_id for r in connection.execute(query)}
    next_id = (connection.execute(select(func.max(a.c.account_id))).scalar() or 0) + 1
    rows = []
    for (path, unit), account in wanted.items():
        if (path, unit) in known:
            continue
        known[path, unit] = next_id
        rows.append({"account_id": next_id, "path": path, "unit": unit, "role": account.role,
                     "phase": account.phase, "model": account.model, "version": account.version,
                     "activity": account.activity, "run_id": account.run_id})  # fmt: skip
        next_id += 1
    if rows:
        connection.execute(insert(a), rows)
    return known


def _entry_query() -> Any:
    e, b = t.entry, t.batch
    debit, credit = t.account.alias("debit_side"), t.account.alias("credit_side")
    return (
        select(e, b.c.batch_sha256, debit.c.path.label("debit"), credit.c.path.label("credit"))
        .join(b, b.c.batch_id == e.c.batch_id)
        .join(debit, debit.c.account_id == e.c.debit_account)
        .join(credit, credit.c.account_id == e.c.credit_account)
        .order_by(e.c.seq)
    )


def _entry_dict(row: Any) -> dict[str, Any]:
    found = dict(row)
    found["coef_ids"] = found["coef_ids"].split(",") if found["coef_ids"] else []
    return found
