"""What reports read: sums of roll-ups. No query here touches windows, and entries only by number.

Days are counted from 1970-01-01; a span is a first and a last day, both included.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Engine,
    FromClause,
    Integer,
    Row,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    null,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.facts import Completeness
from steelyard.adapters.sql.insert import chunks
from steelyard.adapters.sql.rollups import DAY_US, NO_MODEL
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.ledger import Unit
from steelyard.domain.measures import Amount, Direct, Owned, SharedIdle
from steelyard.domain.metering import Activity, LedgerPhase
from steelyard.domain.span import whole_months

LIMB = 12
Days = tuple[int, int] | None
"""First and last day; None is every day."""
Models = Collection[str] | None
"""Which models; None is all of them."""
DailyTotals = dict[Unit, dict[int, int]]
"""Amounts by unit and day."""
Flops = dict[tuple[str, LedgerPhase], int]
"""FLOPs by model and phase."""

COUNTS = ("windows", "flop_windows", "requests", "errors", "cache_hits", "items", "tokens_in",
          "tokens_out", "busy_ns", "busy_device_us")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Used:
    """What one version, or one run without a version, did in one activity over a span.

    On one device model, in one datatype: None where the producers did not say it. ``flop`` is
    None when no window knew its FLOPs; ``flop_windows`` of ``windows`` did.
    """

    version: int | None
    run_id: str | None
    phase: LedgerPhase
    activity: Activity
    device_model: str
    datatype: str | None
    windows: int
    flop_windows: int
    requests: int
    errors: int
    cache_hits: int
    items: int
    tokens_in: int
    tokens_out: int
    busy_ns: int
    busy_device_us: int
    start_us: int
    end_us: int
    flop: int | None


class ReportStore:
    """Sums in SQL. Every method is one consistent read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def models(self) -> list[str]:
        """Every model that something was charged to."""
        model = ledger.account.c.model
        with reading(self._engine) as connection:
            query = select(model).where(model.is_not(None)).distinct().order_by(model)
            return list(connection.execute(query).scalars())

    def amounts(
        self, models: Models = None, days: Days = None, units: Collection[Unit] | None = None
    ) -> list[Amount]:
        """Sums by model, phase, role, unit and tier: of some models, or of all but the pools."""
        of_these = and_(_of(models), *_in_units(units))
        with reading(self._engine) as connection:
            if days is None:
                return _amounts(connection, _rows(projections.balance, of_these))
            months, around = whole_months(*days)
            parts = [_rows(projections.rollup_day, of_these, _on(part)) for part in around]
            if months[0] <= months[1]:
                parts.append(_month_rows(models, units, months))
            return _amounts(connection, union_all(*parts))

    def by_version(self, model: str, days: Days = None) -> list[Amount]:
        """The same of one model, a row a version."""
        mine = _of([model])
        rows = _rows(projections.balance, mine)
        if days is not None:
            rows = _rows(projections.rollup_day, mine, _on(days))
        with reading(self._engine) as connection:
            return _amounts(connection, rows, "version")

    def daily(self, model: str, days: tuple[int, int]) -> list[Amount]:
        """The same of one model, a row a version and day."""
        rows = _rows(projections.rollup_day, _of([model]), _on(days))
        with reading(self._engine) as connection:
            return _amounts(connection, rows, "version", "day")

    def by_day(self, models: Models, days: tuple[int, int], units: Collection[Unit]) -> DailyTotals:
        """Training and inference of models together, by unit and day; None is all supply."""
        d, sign = projections.model_day.c, -1 if models is None else 1
        query = (
            select(d.unit, d.day, func.sum(d.amount))
            .where(d.model.in_([NO_MODEL] if models is None else models))
            .where(d.unit.in_(units), d.day.between(*days))
            .group_by(d.unit, d.day)
        )
        found: DailyTotals = {}
        with reading(self._engine) as connection:
            for unit, day, amount in connection.execute(query).all():
                found.setdefault(unit, {})[day] = sign * int(amount)
        return found

    def shared_idle(
        self, models: Models = None, days: Days = None, units: Collection[Unit] | None = None
    ) -> tuple[list[SharedIdle], dict[str, set[Owned]], Direct]:
        """Idle amounts by day of deployments with several owners; those; what they did that day.

        With ``models``, only of the deployments that one of them is an owner of.
        """
        a, in_units = ledger.account.c, _in_units(units)
        with reading(self._engine) as connection:
            nobodys = (a.role == "idle") & a.model.is_(None)
            owners = _owners(connection, nobodys)
            wanted = {path: who for path, who in owners.items()
                      if models is None or any(w[0] in models for w in who)}  # fmt: skip
            if not wanted:
                return [], {}, {}
            of_these = and_(nobodys, a.path.in_(wanted), *in_units)
            whose = {w[0] for who in wanted.values() for w in who}
            consumers = and_(a.role == "consumer", a.model.in_(whose), *in_units)
            idle = _idle_days(connection, of_these, days)
            return idle, wanted, _direct(connection, consumers, {part.day for part in idle})

    def used(self, models: Models = None, days: Days = None) -> dict[str, list[Used]]:
        """Usage of each model by version, run, phase, activity, device model and datatype."""
        u = _usage(models, days).c
        key = (u.model, u.version, u.run_id, u.phase, u.activity, u.device_model, u.datatype)
        sums = [func.sum(u[name]).label(name) for name in COUNTS]
        edges = [func.min(u.start_us).label("start_us"), func.max(u.end_us).label("end_us")]
        found: dict[str, list[Used]] = {}
        with reading(self._engine) as connection:
            query = select(*key, *sums, *edges, *_flop_sums(connection, u.flop)).group_by(*key)
            for row in connection.execute(query).all():
                found.setdefault(row.model, []).append(Used(
                    row.version or None, row.run_id or None, row.phase, row.activity,
                    row.device_model, row.datatype or None,
                    **{name: int(getattr(row, name)) for name in COUNTS},
                    start_us=row.start_us, end_us=row.end_us,
                    flop=_flop(row) if row.flop_windows else None,
                ))  # fmt: skip
        return found

    def flops(self, models: Models = None, days: Days = None) -> Flops:
        """Known FLOPs by model and phase."""
        u = _usage(models, days, ("model", "phase", "flop", "flop_windows")).c
        with reading(self._engine) as connection:
            query = (
                select(u.model, u.phase, *_flop_sums(connection, u.flop))
                .where(u.flop_windows > 0)
                .group_by(u.model, u.phase)
            )
            return {(row.model, row.phase): _flop(row) for row in connection.execute(query)}

    def places(self, model: str, since_us: int = 0) -> list[tuple[str, str | None]]:
        """Device models and regions that inference of a model was reserved on since a moment."""
        r, o, end = measured.resource.c, measured.resource_owner.c, measured.resource_end.c
        query = (
            select(r.device_model, r.region)
            .distinct()
            .join(measured.resource_owner, o.resource_id == r.resource_id)
            .outerjoin(measured.resource_end, end.resource_id == r.resource_id)
            .where(
                o.model == model, o.phase == "inference",
                or_(end.ended_us.is_(None), end.ended_us > since_us),
            )
        )  # fmt: skip
        with reading(self._engine) as connection:
            rows = connection.execute(query)
            return sorted(((row[0], row[1]) for row in rows), key=lambda p: (p[0], p[1] or ""))

    def requests_by_day(self, model: str, days: Days = None) -> list[tuple[int, int, int]]:
        """(day, version, requests) that were served."""
        u = projections.usage_day.c
        served = (u.model == model) & (u.phase == "inference") & (u.activity == "serve")
        query = (
            select(u.day, u.version, func.sum(u.requests))
            .where(served, *_within(u.day, days))
            .group_by(u.day, u.version)
            .order_by(u.day, u.version)
        )
        with reading(self._engine) as connection:
            return [(row[0], row[1], int(row[2])) for row in connection.execute(query).all()]

    def completeness(
        self, models: Collection[str] | None = None, days: Days = None
    ) -> Completeness:
        """Windows received of expected, over the producers' boots that were alive in the span."""
        b, e = projections.boot, measured.boot_end
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
        e, b = ledger.entry, ledger.batch
        debit, credit = ledger.account.alias("debit_side"), ledger.account.alias("credit_side")
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
            found = select(ledger.entry.c.hash).where(ledger.entry.c.seq == seq)
            return connection.execute(found).scalar_one_or_none()


def _of(models: Models) -> ColumnElement[bool]:
    a = ledger.account.c
    return a.model.in_(models) if models is not None else a.role != "pool"


def _in_units(units: Collection[Unit] | None) -> list[ColumnElement[bool]]:
    return [ledger.account.c.unit.in_(units)] if units is not None else []


def _usage(models: Models, days: Days, names: Sequence[str] = ()) -> FromClause:
    """Rows of usage that a span is the sum of: its whole months, and the days around them.

    With ``names`` only these columns: each one costs time in a row that is added up.
    """
    month, day = projections.usage_month, projections.usage_day
    names = names or [column.name for column in day.columns if column.name != "day"]

    def rows(table: Table, *where: ColumnElement[bool]) -> Select[Any]:
        mine = [table.c.model.in_(models)] if models is not None else []
        return select(*(table.c[name] for name in names)).where(*mine, *where)

    if days is None:
        return rows(month).subquery()
    months, around = whole_months(*days)
    whole = [rows(month, month.c.month.between(*months))] if months[0] <= months[1] else []
    return union_all(*whole, *(rows(day, day.c.day.between(*part)) for part in around)).subquery()


def _flop_sums(connection: Connection, flop: ColumnElement[int]) -> list[Any]:
    """Columns that ``_flop`` adds up: exact sums of what 64 bits do not hold.

    PostgreSQL sums NUMERIC exactly. SQLite keeps the digits as text: they are summed in four
    groups of twelve, which cannot overflow below nine million rows.
    """
    if connection.dialect.name != "sqlite":
        return [func.sum(flop).label("flop")]
    digits = type_coerce(flop, Text)
    return [func.sum(_limb(digits, n)).label(f"limb_{3 - n}") for n in range(4)]


def _limb(digits: ColumnElement[str], n: int) -> ColumnElement[int]:
    """The n-th group of digits from the right. Most numbers have only the first two."""
    if n == 0:
        return cast(func.substr(digits, -LIMB), Integer)
    left = func.length(digits) - LIMB * n
    group = func.substr(digits, func.max(1, left - LIMB + 1), func.min(LIMB, left))
    return case((left > 0, cast(group, Integer)), else_=0)


def _flop(row: Row[Any]) -> int:
    if "flop" in row._fields:
        return int(row.flop)
    total = 0
    for n in range(4):
        total = total * 10**LIMB + int(getattr(row, f"limb_{n}"))
    return total


def _within(day: Any, days: Days) -> list[Any]:
    return [] if days is None else [day.between(*days)]


def _on(days: tuple[int, int]) -> ColumnElement[bool]:
    return projections.rollup_day.c.day.between(*days)


def _rows(sums: Table, which: ColumnElement[bool], *where: ColumnElement[bool]) -> Select[Any]:
    """Sums by account, with what the account says."""
    a, time = ledger.account.c, [sums.c.day] if "day" in sums.c else []
    return (
        select(a.model, a.version, a.phase, a.role, a.unit, sums.c.tier, sums.c.amount, *time)
        .join(ledger.account, a.account_id == sums.c.account_id)
        .where(which, *where)
    )


def _month_rows(
    models: Models, units: Collection[Unit] | None, months: tuple[int, int]
) -> Select[Any]:
    """The same of whole months, without versions."""
    m = projections.model_month.c
    where = [m.month.between(*months)]
    where += [m.model.in_(models)] if models is not None else []
    where += [m.unit.in_(units)] if units is not None else []
    model = func.nullif(m.model, NO_MODEL).label("model")
    phase = func.nullif(m.phase, "").label("phase")
    nobody, never = null().label("version"), null().label("day")
    return select(model, nobody, phase, m.role, m.unit, m.tier, m.amount, never).where(*where)


def _amounts(
    connection: Connection, source: Select[Any] | CompoundSelect[Any], *more: str
) -> list[Amount]:
    """Sums of rows; sums of 0 are left out, like accounts that were never charged."""
    rows = source.subquery().c
    key = [rows[name] for name in ("model", "phase", "role", "unit", "tier", *more)]
    total = func.sum(rows.amount)
    query = select(*key, total).group_by(*key).having(total != 0)
    found = []
    for model, phase, role, unit, tier, *rest, amount in connection.execute(query).all():
        named = dict(zip(more, rest, strict=True))
        found.append(Amount(model, named.get("version"), phase, role, unit, tier, int(amount),
                            named.get("day")))  # fmt: skip
    return found


def _idle_days(connection: Connection, which: ColumnElement[bool], days: Days) -> list[SharedIdle]:
    a, r = ledger.account.c, projections.rollup_day.c
    query = (
        select(a.path, r.day, a.unit, r.tier, r.amount)
        .join(ledger.account, a.account_id == r.account_id)
        .where(which, r.amount != 0, *_within(r.day, days))
    )
    return [SharedIdle(*row) for row in connection.execute(query).all()]


def _direct(connection: Connection, which: ColumnElement[bool], days: Collection[int]) -> Direct:
    """What each owner did on some days, by day and unit."""
    a, r = ledger.account.c, projections.rollup_day.c
    accounts = {
        row.account_id: ((row.model, row.version, row.phase), row.unit)
        for row in connection.execute(select(ledger.account).where(which))
    }
    found: dict[tuple[int, Unit], dict[Owned, int]] = {}
    for chunk in chunks(sorted(days)):
        query = select(r.account_id, r.day, r.amount).where(
            r.account_id.in_(select(a.account_id).where(which)), r.day.in_(chunk)
        )
        for account_id, day, amount in connection.execute(query).all():
            whose, unit = accounts[account_id]
            of_day = found.setdefault((day, unit), {})
            of_day[whose] = of_day.get(whose, 0) + amount
    return found


def _owners(connection: Connection, nobodys: ColumnElement[bool]) -> dict[str, set[Owned]]:
    """Whom the resources of each deployment (``idle:serve/shop``) ever worked for."""
    a, o = ledger.account.c, measured.resource_owner.c
    paths = set(connection.execute(select(a.path).where(nobodys).distinct()).scalars())
    found: dict[str, set[Owned]] = {}
    if paths:
        whose = select(o.resource_id, o.model, o.version, o.phase).distinct()
        for resource_id, model, version, phase in connection.execute(whose):
            path = f"idle:{resource_id.rsplit('/', 1)[0]}"
            if path in paths:
                found.setdefault(path, set()).add((model, version or None, phase))
    return found


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    hidden: Collection[str] = ("debit_account", "credit_account", "coef_ids")
    ids = row["coef_ids"]
    return {k: v for k, v in row.items() if k not in hidden} | {
        "coef_ids": ids.split(",") if ids else []
    }
