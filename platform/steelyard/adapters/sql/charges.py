"""The query behind exports: entries summed by account, day, origin and price, in one snapshot."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Subquery,
    and_,
    func,
    literal,
    select,
    union_all,
)

from steelyard.adapters.sql.appending import account
from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.charge import (
    DAY_US,
    BillingPeriod,
    Movement,
    Origin,
    Selection,
)

TARGETS = ("consumer", "idle", "overhead")
"""Whom cost ends with; a pool only passes it on."""
SOURCES = ("pool", "supply")
"""Where it comes from: a resource, or, for what nobody used of a reservation, its supply."""
_A_TIME = 2_000


class ChargeStore:
    """Charges in SQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def snapshot(self, selection: Selection) -> "Iterator[ChargeSnapshot]":
        """The books at one moment; what is posted meanwhile is not in it."""
        with reading(self._engine) as connection:
            yield ChargeSnapshot(connection, selection)


@dataclass(frozen=True, slots=True)
class ChargeSnapshot:
    """One reading transaction over the selected entries."""

    connection: Connection
    selection: Selection

    def head(self) -> tuple[int, str] | None:
        """Number and hash of the newest entry; None in an empty ledger."""
        e = ledger.entry.c
        newest = select(e.seq, e.hash).order_by(e.seq.desc()).limit(1)
        row = self.connection.execute(newest).one_or_none()
        return (row.seq, row.hash) if row else None

    def total_nano(self) -> int:
        """What the selected entries cost: all that the supply gave, or all that a model got."""
        a, model = ledger.account.c, self.selection.model
        if model is None:
            supplied = and_(a.role == "supply")
            return self._sum(ledger.entry.c.credit_account, supplied) - self._sum(
                ledger.entry.c.debit_account, supplied
            )
        mine = and_(a.model == model, a.role.in_(TARGETS))
        return self._sum(ledger.entry.c.debit_account, mine) - self._sum(
            ledger.entry.c.credit_account, mine
        )

    def _sum(self, side: ColumnElement[int], condition: ColumnElement[bool]) -> int:
        query = (
            select(func.coalesce(func.sum(ledger.entry.c.amount), 0))
            .join(ledger.account, ledger.account.c.account_id == side)
            .where(condition, ledger.entry.c.unit == "nUSD", *self._conditions())
        )
        return int(self.connection.execute(query).scalar_one())

    def days(self) -> Iterator[list[Movement]]:
        """The movements of each booked month and day, in order; one day is in memory at a time.

        Those of all models: what share of a resource one model had depends on the others.
        """
        streamed = self.connection.execution_options(yield_per=_A_TIME).execute(self._query())
        with streamed as rows:
            for _, day in groupby(rows, key=lambda row: (row.booked, row.day)):
                yield [_movement(row) for row in day]

    def _query(self) -> Select[Any]:
        sums, own, other = self._sums(), ledger.account.alias("own"), ledger.account.alias("other")
        last, p, r = ledger.entry.alias("last"), ledger.period, measured.resource
        charged = other.c.role.in_(SOURCES)
        resource_id = func.substr(other.c.path, func.length(other.c.role) + 2)
        return (
            select(
                sums, own, last.c.hash.label("last_hash"),
                p.c.start_us, p.c.end_us, r.c.resource_id, r.c.kind, r.c.region, r.c.team,
            )
            .join(own, own.c.account_id == sums.c.own_id)
            .join(other, other.c.account_id == sums.c.other_id)
            .join(last, last.c.seq == sums.c.last_seq)
            .join(p, p.c.period_id == sums.c.booked)
            .outerjoin(r, charged & (r.c.resource_id == resource_id))
            .order_by(sums.c.booked, sums.c.day)
        )  # fmt: skip

    def _sums(self) -> Subquery:
        e = ledger.entry.c
        sides = [self._side(1, e.debit_account, e.credit_account),
                 self._side(-1, e.credit_account, e.debit_account)]  # fmt: skip
        return union_all(*sides).subquery("sums")

    def _side(self, sign: int, own: ColumnElement[int], other: ColumnElement[int]) -> Select[Any]:
        e, a = ledger.entry.c, ledger.account.alias("side")
        day = e.period_start_us // DAY_US
        key = (e.period_id, day, own, other, e.price_id, e.tier)
        return (
            select(
                literal(sign).label("sign"), e.period_id.label("booked"), day.label("day"),
                own.label("own_id"), other.label("other_id"), e.price_id, e.tier,
                func.sum(e.amount).label("amount"), func.min(e.seq).label("first_seq"),
                func.max(e.seq).label("last_seq"),
            )
            .join(a, (a.c.account_id == own) & a.c.role.in_(TARGETS))
            .where(*self._conditions())
            .group_by(*key)
        )  # fmt: skip

    def _conditions(self) -> Sequence[ColumnElement[bool]]:
        e, chosen = ledger.entry.c, self.selection
        found: list[ColumnElement[bool]] = []
        if chosen.period_id is not None:
            found.append(e.period_id == chosen.period_id)
        if chosen.first_day is not None:
            found.append(e.period_start_us >= chosen.first_day * DAY_US)
        if chosen.last_day is not None:
            found.append(e.period_start_us < (chosen.last_day + 1) * DAY_US)
        return found


def _movement(row: Any) -> Movement:
    origin = None
    if row.resource_id is not None:
        name = row.resource_id.rsplit("/", 1)[0]
        origin = Origin(name, row.kind, row.region, row.team)
    return Movement(
        BillingPeriod(row.booked, row.start_us, row.end_us), row.day, origin, account(row),
        row.unit, row.sign * int(row.amount), row.first_seq, row.last_seq, row.last_hash,
        row.price_id, row.tier,
    )  # fmt: skip
