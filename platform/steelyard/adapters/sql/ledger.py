"""The store of entries: posting onto the chain, balances, and the check of the chain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, case, func, select

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.appending import (
    REVERSAL,
    AccountIds,
    Appender,
    account,
    stored_transfers,
)
from steelyard.adapters.sql.checking import entry_dict, entry_query, find_break
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.rollups import DAY_US, rebuild
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.hash_chain import Break
from steelyard.domain.ledger import (
    Account,
    Posting,
    Transfer,
)


@dataclass(frozen=True, slots=True)
class Balance:
    """Debits − credits of one account in one unit, over everything posted.

    ``tiers`` splits amounts of energy, and what follows from them, by how they were found.
    """

    account: Account
    unit: str
    amount: int
    tiers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: what an outside witness should remember."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it is in the books, and whether a later one took it back."""

    batch_id: str
    kind: str
    method_id: str
    subject: str
    period_start_us: int
    period_end_us: int
    reason: str
    reversed: bool


class LedgerStore:
    """Entries in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._accounts: AccountIds = {}

    def post(self, postings: Sequence[Posting], now_us: int) -> int:
        """Append what of these is not void; the number of entries.

        Raises IntegrityError, and writes nothing, when a trigger finds an entry unsound.
        """
        with writing(self._engine) as connection:
            appender = Appender(connection, now_us, self._accounts)
            appender.add(postings)
            entries = appender.write()
        self._accounts |= appender.new_accounts
        return entries

    def batches(self, subject: str) -> list[StoredBatch]:
        """The batches about a subject, oldest first."""
        return self._batches(ledger.batch.c.subject == subject)

    def batch(self, batch_id: str) -> StoredBatch | None:
        """One batch; None when there is no such batch."""
        return next(iter(self._batches(ledger.batch.c.batch_id == batch_id)), None)

    def batches_between(self, method_id: str, start_us: int, end_us: int) -> list[StoredBatch]:
        """Batches of one method whose charge starts in ``[start_us, end_us)``, by time."""
        b = ledger.batch.c
        return self._batches(
            (b.method_id == method_id) & b.period_start_us.between(start_us, end_us - 1)
        )

    def newest_charge(self, subject_prefix: str, method_id: str) -> int | None:
        """When the newest charge of a method about subjects with this prefix starts."""
        b = ledger.batch
        query = select(func.max(b.c.period_start_us)).where(
            b.c.method_id == method_id, b.c.subject.startswith(subject_prefix, autoescape=True)
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def _batches(self, condition: Any) -> list[StoredBatch]:
        b, taken = ledger.batch, ledger.batch.alias("taken")
        query = (
            select(b, taken.c.batch_id.is_not(None).label("reversed"))
            .outerjoin(
                taken, (taken.c.subject == b.c.batch_id) & (taken.c.method_id == REVERSAL)
            )
            .where(condition)
            .order_by(b.c.period_start_us, b.c.revision)
        )  # fmt: skip
        names = StoredBatch.__dataclass_fields__
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings()
            return [
                StoredBatch(
                    **{name: row[name] for name in names} | {"reversed": bool(row["reversed"])}
                )
                for row in rows
            ]

    def transfers(self, batch_id: str) -> list[Transfer]:
        """The entries of a batch, in order."""
        with reading(self._engine) as connection:
            return [transfer for _, transfer in stored_transfers(connection, batch_id)]

    def revision(self, method_id: str, subject: str) -> int:
        """How many batches of this method the subject has; the next one takes this number."""
        b = ledger.batch
        query = select(func.count()).where(b.c.method_id == method_id, b.c.subject == subject)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def balances(self, model: str | None = None) -> list[Balance]:
        """Balances per account and unit; all of one model when given."""
        a, b = ledger.account, projections.balance
        query = (
            select(a, b.c.tier, b.c.amount)
            .outerjoin(b, b.c.account_id == a.c.account_id)
            .order_by(a.c.path, a.c.unit, b.c.tier)
        )
        if model is not None:
            query = query.where(a.c.model == model)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        grouped: dict[int, list[Row[Any]]] = {}
        for row in rows:
            grouped.setdefault(row.account_id, []).append(row)
        return [_balance(group) for group in grouped.values()]

    def movements(self, model: str, unit: str) -> list[tuple[int, str, str, int]]:
        """What was charged to a model over time: (charge end, phase, role, amount), in order.

        By day; by charge as long as everything happened within two days.
        """
        a, r, e = ledger.account, projections.rollup_day, ledger.entry
        mine = (a.c.model == model) & (a.c.unit == unit)
        joined = r.join(a, a.c.account_id == r.c.account_id)
        with reading(self._engine) as connection:
            span = select(func.min(r.c.day), func.max(r.c.day)).select_from(joined).where(mine)
            first, last = connection.execute(span).one()
            if first is None:
                return []
            end_us: ColumnElement[Any] = e.c.period_end_us
            sign = case((e.c.debit_account == a.c.account_id, 1), else_=-1)
            amount: ColumnElement[Any] = sign * e.c.amount
            source = e.join(a, a.c.account_id.in_((e.c.debit_account, e.c.credit_account)))
            if last - first > 1:
                end_us, amount, source = (r.c.day + 1) * DAY_US, r.c.amount, joined
            query = (
                select(end_us.label("end_us"), a.c.phase, a.c.role, func.sum(amount))
                .select_from(source)
                .where(mine)
                .group_by(end_us, a.c.phase, a.c.role)
                .order_by(end_us, a.c.phase, a.c.role)
            )
            return [(row[0], row[1], row[2], int(row[3])) for row in connection.execute(query)]

    def head(self) -> Head | None:
        """The newest entry; None in an empty ledger."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(ledger.entry.c.seq, ledger.entry.c.hash)
                .order_by(ledger.entry.c.seq.desc())
                .limit(1)
            ).one_or_none()
        return Head(row.seq, row.hash) if row else None

    def first_break(self) -> Break | None:
        """Recompute everything that is derived; the first entry that does not hold, or None.

        See ``checking``: what the hashes cover, and what is compared with it.
        """
        with reading(self._engine) as connection:
            return find_break(connection)

    def publish_head(self, now_us: int) -> None:
        """Note the newest entry once a day, for whoever compares chains later."""
        day = datetime.fromtimestamp(now_us / 1e6, UTC).date().isoformat()
        head = self.head()
        if head is None:
            return
        row = {"day": day, "seq": head.seq, "hash": head.hash, "recorded_us": now_us,
               "published_to": "ledger"}  # fmt: skip
        with writing(self._engine) as connection:
            insert_new(connection, ledger.chain_head, [row], ("day",))

    def rebuild(self) -> None:
        """Make the sums that reports read anew from entries and windows."""
        with writing(self._engine) as connection:
            rebuild(connection)

    def entries(self, since_seq: int = 1) -> Iterator[dict[str, Any]]:
        """Entries with account paths, in order, for export."""
        with reading(self._engine) as connection:
            query = entry_query().where(ledger.entry.c.seq >= since_seq)
            # Closed with the generator, also when the reader stops half-way.
            with connection.execute(query, execution_options={"yield_per": 2_000}) as rows:
                yield from map(entry_dict, rows.mappings())

    def batch_of_window(self, resource_id: str, at_us: int) -> str | None:
        """The batch that charged a resource's window around a moment, if it was posted."""
        s, p = measured.supply_window, ledger.posted_window
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


def _balance(rows: "Sequence[Row[Any]]") -> Balance:
    first = rows[0]
    amounts = [(row.tier, int(row.amount)) for row in rows if row.amount]
    tiers = tuple((tier, amount) for tier, amount in amounts if tier)
    return Balance(account(first), first.unit, sum(amount for _, amount in amounts), tiers)
