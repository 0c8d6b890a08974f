"""What reports read: sums of roll-ups. No query here touches windows, and entries only by number.

Days are counted from 1970-01-01; a span is a first and a last day, both included.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    FromClause,
    Integer,
    Row,
    Select,
    Text,
    cast,
    func,
    literal,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.sql.elements import ColumnElement

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.facts import Completeness
from steelyard.adapters.sql.rollups import DAY_US
from steelyard.domain.measures import Amount, Owned, SharedIdle
from steelyard.domain.metering import Activity, LedgerPhase

LIMB = 12
Days = tuple[int, int] | None
"""First and last day; None is every day."""

COUNTS = ("windows", "flop_windows", "requests", "errors", "cache_hits", "items", "tokens_in",
          "tokens_out", "busy_ns")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Used:
    """What one version, or one run without a version, did in one activity over a span.

    ``flop`` is None when no window knew its FLOPs; ``flop_windows`` of ``windows`` did.
    """

    version: int | None
    run_id: str | None
    phase: LedgerPhase
    activity: Activity
    windows: int
    flop_windows: int
    requests: int
    errors: int
    cache_hits: int
    items: int
    tokens_in: int
    tokens_out: int
    busy_ns: int
    start_us: int
    end_us: int
    flop: int | None


class ReportStore:
    """Sums in SQL. Every method is one consistent read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def models(self) -> list[str]:
        """Every model that something was charged to."""
        model = t.account.c.model
        with reading(self._engine) as connection:
            query = select(model).where(model.is_not(None)).distinct().order_by(model)
            return list(connection.execute(query).scalars())

    def amounts(self, model: str | None = None, days: Days = None) -> list[Amount]:
        """Sums by version, phase, role, unit and tier: of one model, or of all but the pools."""
        with reading(self._engine) as connection:
            return list(_amounts(connection, _of(model), days))

    def daily(self, model: str | None, days: tuple[int, int]) -> list[Amount]:
        """The same, a row a day."""
        with reading(self._engine) as connection:
            return list(_amounts(connection, _of(model), days, by_day=True))

    def by_day(self, models: Collection[str] | None, days: tuple[int, int]) -> list[Amount]:
        """Training and inference together, a row a model, unit and day; None is all supply."""
        a, r = t.account.c, t.rollup_day.c
        of_these = a.model.in_(models) if models is not None else a.role == "supply"
        total = func.sum(r.amount)
        query = (
            select(a.model, a.unit, r.day, total.label("amount"))
            .join(t.account, a.account_id == r.account_id)
            .where(of_these, *_within(r.day, days))
            .group_by(a.model, a.unit, r.day)
        )
        sign, role = (1, "consumer") if models is not None else (-1, "supply")
        with reading(self._engine) as connection:
            return [
                Amount(row.model, None, None, role, row.unit, "", sign * int(row.amount), row.day)  # type: ignore[arg-type]
                for row in connection.execute(query)
            ]

    def shared_idle(
        self, model: str | None = None, days: Days = None
    ) -> tuple[list[SharedIdle], dict[str, set[Owned]], list[Amount]]:
        """Idle amounts by day of deployments with several owners; those; their direct amounts.

        With ``model``, only of the deployments that it is an owner of.
        """
        a = t.account.c
        with reading(self._engine) as connection:
            nobodys = (a.role == "idle") & a.model.is_(None)
            paths = connection.execute(select(a.path).where(nobodys).distinct()).scalars()
            owners = {path: _owners(connection, path) for path in paths}
            wanted = {path: who for path, who in owners.items()
                      if who and (model is None or model in {w[0] for w in who})}  # fmt: skip
            if not wanted:
                return [], {}, []
            idle = list(_idle_days(connection, nobodys & a.path.in_(wanted), days))
            span = (min((i.day for i in idle), default=0), max((i.day for i in idle), default=0))
            whose = a.model.in_({w[0] for who in wanted.values() for w in who})
            direct = _amounts(connection, whose & (a.role == "consumer"), span, by_day=True)
            return idle, wanted, list(direct)

    def used(self, model: str, days: Days = None) -> list[Used]:
        """Usage by version, run, phase and activity."""
        u = t.usage_day.c
        key = (u.version, u.run_id, u.phase, u.activity)
        sums = [func.sum(u[name]).label(name) for name in COUNTS]
        edges = [func.min(u.start_us).label("start_us"), func.max(u.end_us).label("end_us")]
        with reading(self._engine) as connection:
            query = (
                select(*key, *sums, *edges, *_flop_sums(connection))
                .where(u.model == model, *_within(u.day, days))
                .group_by(*key)
            )
            return [
                Used(
                    row.version or None, row.run_id or None, row.phase, row.activity,
                    **{name: int(getattr(row, name)) for name in COUNTS},
                    start_us=row.start_us, end_us=row.end_us,
                    flop=_flop(row) if row.flop_windows else None,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def flops(self, days: Days = None) -> dict[tuple[str, LedgerPhase], int]:
        """Known FLOPs by model and phase."""
        u = t.usage_day.c
        with reading(self._engine) as connection:
            query = (
                select(u.model, u.phase, *_flop_sums(connection))
                .where(u.flop_windows > 0, *_within(u.day, days))
                .group_by(u.model, u.phase)
            )
            return {(row.model, row.phase): _flop(row) for row in connection.execute(query)}

    def requests_by_day(self, model: str, days: Days = None) -> list[tuple[int, int, int]]:
        """(day, version, requests) that were served."""
        u = t.usage_day.c
        served = (u.model == model) & (u.phase == "inference") & (u.activity == "serve")
        query = (
            select(u.day, u.version, func.sum(u.requests))
            .where(served, *_within(u.day, days))
            .group_by(u.day, u.version)
            .order_by(u.day, u.version)
        )
        with reading(self._engine) as connection:
            return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]

    def completeness(
        self, models: Collection[str] | None = None, days: Days = None
    ) -> Completeness:
        """Windows received of expected, over the producers' boots that were alive in the span."""
        b, e = t.boot, t.boot_end
        last = func.coalesce(e.c.last_seq, b.c.highest_seq)
        where: list[Any] = [b.c.model.in_(models)] if models is not None else []
        if days is not None:
            where += [b.c.end_us > days[0] * DAY_US, b.c.start_us < (days[1] + 1) * DAY_US]
        query = (
            select(
                func.coalesce(func.sum(b.c.received), 0), func.coalesce(func.sum(last), 0),
                func.count(), func.count(e.c.boot_id),
            )
            .select_from(b)
            .outerjoin(e, (e.c.producer_id == b.c.producer_id) & (e.c.boot_id == b.c.boot_id))
            .where(*where)
        )  # fmt: skip
        with reading(self._engine) as connection:
            received, expected, boots, ended = connection.execute(query).one()
        return Completeness(int(received), int(expected), boots, boots - ended)

    def entries(
        self, model: str | None = None, since_seq: int | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Entries with their accounts and batch, in order: from a number on, else the newest."""
        e, b = t.entry, t.batch
        debit, credit = t.account.alias("debit_side"), t.account.alias("credit_side")
        query = (
            select(
                e, b.c.kind, b.c.method_id, b.c.subject, b.c.reason,
                debit.c.path.label("debit"), credit.c.path.label("credit"),
            )
            .join(b, b.c.batch_id == e.c.batch_id)
            .join(debit, debit.c.account_id == e.c.debit_account)
            .join(credit, credit.c.account_id == e.c.credit_account)
            .limit(limit)
        )  # fmt: skip
        if model is not None:
            query = query.where(or_(debit.c.model == model, credit.c.model == model))
        if since_seq is not None:
            query = query.where(e.c.seq >= since_seq).order_by(e.c.seq)
        else:
            query = query.order_by(e.c.seq.desc())
        with reading(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return sorted((_told(row) for row in rows), key=lambda row: row["seq"])

    def hash_of(self, seq: int) -> str | None:
        """The stored hash of one entry; None when there is no such entry."""
        with reading(self._engine) as connection:
            found = select(t.entry.c.hash).where(t.entry.c.seq == seq)
            return connection.execute(found).scalar_one_or_none()


def _of(model: str | None) -> ColumnElement[bool]:
    a = t.account.c
    return a.model == model if model is not None else a.role != "pool"


def _flop_sums(connection: Connection) -> list[Any]:
    """Columns that ``_flop`` adds up: exact sums of what 64 bits do not hold.

    PostgreSQL sums NUMERIC exactly. SQLite keeps the digits as text: they are summed in four
    groups of twelve, which cannot overflow below nine million rows.
    """
    flop = t.usage_day.c.flop
    if connection.dialect.name != "sqlite":
        return [func.sum(flop).label("flop")]
    padded = func.substr(literal("0" * 4 * LIMB, Text).concat(type_coerce(flop, Text)), -4 * LIMB)
    limbs = (func.substr(padded, 1 + LIMB * n, LIMB) for n in range(4))
    return [func.sum(cast(limb, Integer)).label(f"limb_{n}") for n, limb in enumerate(limbs)]


def _flop(row: Row[Any]) -> int:
    if "flop" in row._fields:
        return int(row.flop)
    total = 0
    for n in range(4):
        total = total * 10**LIMB + int(getattr(row, f"limb_{n}"))
    return total


def _within(day: Any, days: Days) -> list[Any]:
    return [] if days is None else [day.between(*days)]


def _amounts(
    connection: Connection, which: ColumnElement[bool], days: Days, *, by_day: bool = False
) -> Iterable[Amount]:
    """Sums over accounts; sums of 0 are left out, like accounts that were never charged."""
    a, source = t.account, _totals(which, days)
    key: list[Any] = [a.c.model, a.c.version, a.c.phase, a.c.role, a.c.unit, source.c.tier]
    if by_day:
        source = t.rollup_day
        key = [*key[:-1], source.c.tier, source.c.day]
    total = func.sum(source.c.amount)
    query: Select[Any] = (
        select(*key, total.label("amount"))
        .join(a, a.c.account_id == source.c.account_id)
        .where(which, *(_within(source.c.day, days) if by_day else ()))
        .group_by(*key)
        .having(total != 0)
    )
    for row in connection.execute(query):
        yield Amount(row.model, row.version, row.phase, row.role, row.unit, row.tier,
                     int(row.amount), row.day if by_day else None)  # fmt: skip


def _totals(which: ColumnElement[bool], days: Days) -> FromClause:
    """Sums by account and tier: kept for all time, added up in the order of the key for a span."""
    if days is None:
        return t.balance
    r, a = t.rollup_day.c, t.account.c
    total = func.sum(r.amount).label("amount")
    of_these = r.account_id.in_(select(a.account_id).where(which))
    query = select(r.account_id, r.tier, total).where(of_these, *_within(r.day, days))
    return query.group_by(r.account_id, r.tier).subquery()


def _idle_days(
    connection: Connection, which: ColumnElement[bool], days: Days
) -> Iterable[SharedIdle]:
    a, r = t.account.c, t.rollup_day.c
    query = (
        select(a.path, r.day, a.unit, r.tier, r.amount)
        .join(t.account, a.account_id == r.account_id)
        .where(which, r.amount != 0, *_within(r.day, days))
        .order_by(r.day, a.path, a.unit, r.tier)
    )
    for row in connection.execute(query):
        yield SharedIdle(row.path, row.day, row.unit, row.tier, row.amount)


def _owners(connection: Connection, path: str) -> set[Owned]:
    """Whom the resources of a deployment (``idle:serve/shop``) ever worked for."""
    o, prefix = t.resource_owner.c, path.removeprefix("idle:") + "/"
    query = select(t.resource_owner).where(o.resource_id.startswith(prefix, autoescape=True))
    return {
        (row.model, row.version or None, row.phase)
        for row in connection.execute(query)
        if "/" not in row.resource_id.removeprefix(prefix)
    }


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    hidden: Collection[str] = ("debit_account", "credit_account", "coef_ids")
    ids = row["coef_ids"]
    return {k: v for k, v in row.items() if k not in hidden} | {
        "coef_ids": ids.split(",") if ids else []
    }
