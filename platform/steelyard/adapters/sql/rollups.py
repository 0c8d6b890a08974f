"""Sums that reports read instead of entries and windows; rebuilt from those at any time.

``balance`` is a fold over all entries per account and tier, ``rollup_day`` the same per day of
the charge. ``model_day`` and ``model_month`` are folds of the days over versions and replicas.
``usage_day`` and ``usage_month`` are folds over usage windows, ``boot`` over all windows of a
producer's boot. Each is written in the transaction that writes what it sums.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, Table, func, select, tuple_, union_all

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.insert import chunks, insert_for, insert_into, insert_rows
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.ledger import Account
from steelyard.domain.silence import COLLECTOR
from steelyard.domain.span import month_number

DAY_US = 86_400_000_000
COUNTERS = ("windows", *measured.COUNTED, "busy_device_us", "flop", "flop_windows")
Whose = Mapping[int, tuple[str, str, str, str]]
"""Account id -> model, phase, role and unit."""
TIME_PLACE = 2
"""Where the day stands in the key of ``usage_day``, and the month in that of ``usage_month``."""
NO_MODEL = ""
"""Stands for amounts that no model owns; in ``model_day`` for what all resources gave."""
NO_VERSION = 0
"""Stands for a run without a version in ``usage_day``, whose key has no NULL."""


def add_entries(
    connection: Connection, rows: Iterable[Mapping[str, Any]], whose: Whose | None = None
) -> None:
    """Count entries into the balances and the days. ``whose`` are their accounts, if known."""
    totals: dict[tuple[int, str], int] = {}
    days: dict[tuple[int, int, str], int] = {}
    for row in rows:
        day, tier = row["period_start_us"] // DAY_US, row["tier"] or ""
        for account, amount in (
            (row["debit_account"], row["amount"]), (row["credit_account"], -row["amount"])
        ):  # fmt: skip
            totals[account, tier] = totals.get((account, tier), 0) + amount
            days[account, day, tier] = days.get((account, day, tier), 0) + amount
    _add(connection, projections.balance, ("account_id", "tier"), "amount", totals)
    _add(connection, projections.rollup_day, ("account_id", "day", "tier"), "amount", days)
    if whose is None:
        whose = _accounts(connection, {account for account, _, _ in days})
    _add_models(connection, days, whose)


def _add_models(
    connection: Connection, days: Mapping[tuple[int, int, str], int], whose: Whose
) -> None:
    """Add up days over a model's versions, and over all resources."""
    by_day: dict[tuple[Any, ...], int] = {}
    by_month: dict[tuple[Any, ...], int] = {}
    for (account, day, tier), amount in days.items():
        model, phase, role, unit = whose[account]
        if role == "pool":  # empty after every charge
            continue
        month = (model, month_number(day), phase, role, unit, tier)
        by_month[month] = by_month.get(month, 0) + amount
        if model != NO_MODEL or role == "supply":
            key = (model, unit, day)
            by_day[key] = by_day.get(key, 0) + amount
    _add(connection, projections.model_day, ("model", "unit", "day"), "amount", by_day)
    month_key = ("model", "month", "phase", "role", "unit", "tier")
    _add(connection, projections.model_month, month_key, "amount", by_month)


def owned(account: Account, unit: str) -> tuple[str, str, str, str]:
    """What the sums of models tell accounts apart by: model, phase, role and unit."""
    return account.model or NO_MODEL, account.phase or "", account.role, unit


def _accounts(connection: Connection, account_ids: Collection[int]) -> Whose:
    a = ledger.account.c
    found: dict[int, tuple[str, str, str, str]] = {}
    for chunk in chunks(sorted(account_ids)):
        query = select(a.account_id, a.model, a.phase, a.role, a.unit)
        rows = connection.execute(query.where(a.account_id.in_(chunk))).all()
        found |= {
            account: (model or NO_MODEL, phase or "", role, unit)
            for account, model, phase, role, unit in rows
        }
    return found


def _add(
    connection: Connection, table: Table, keys: tuple[str, ...], column: str,
    sums: Mapping[tuple[Any, ...], int],
) -> None:  # fmt: skip
    """Add to existing rows, insert the others; what adds nothing is left out."""
    rows = [{**dict(zip(keys, k, strict=True)), column: v} for k, v in sums.items() if v]
    if not rows:
        return
    insert_rows(connection, _adding(connection.dialect.name, table, keys, column), rows)


@lru_cache
def _adding(dialect: str, table: Table, keys: tuple[str, ...], column: str) -> Insert:
    new = insert_for(dialect, table)
    total = table.c[column] + new.excluded[column]
    return new.on_conflict_do_update(index_elements=list(keys), set_={column: total})


def add_usage(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count usage windows into their days. FLOPs exceed 64 bits, so they are added in Python."""
    sums: dict[tuple[Any, ...], dict[str, int]] = {}
    devices = _devices(connection, {row["resource_id"] for row in rows})
    for row in rows:
        device_model, count, slots = devices[row["resource_id"]]
        key = (row["model"], row["version"] or NO_VERSION, row["window_start_us"] // DAY_US,
               row["phase"], row["activity"], row["run_id"] or "", device_model,
               row["datatype"] or "")  # fmt: skip
        _merge(sums, key, {
            **{name: row[name] for name in COUNTERS[1:-3]}, "windows": 1, "flop": row["flop"] or 0,
            "busy_device_us": row["busy_ns"] * count // (1_000 * slots),
            "flop_windows": int(row["flop"] is not None), "start_us": row["window_start_us"],
            "end_us": row["window_end_us"],
        })  # fmt: skip
    months: dict[tuple[Any, ...], dict[str, int]] = {}
    for key, one in sums.items():
        month = month_number(int(key[TIME_PLACE]))
        _merge(months, (*key[:TIME_PLACE], month, *key[TIME_PLACE + 1 :]), one)
    _add_usage(connection, projections.usage_day, sums)
    _add_usage(connection, projections.usage_month, months)


def _add_usage(
    connection: Connection, table: Table, sums: dict[tuple[Any, ...], dict[str, int]]
) -> None:
    keys = table.primary_key.columns.keys()
    for known in _known(connection, table, list(sums)):
        _merge(sums, tuple(known[name] for name in keys), known)
    changed = [{**dict(zip(keys, k, strict=True)), **one} for k, one in sums.items()]
    insert_rows(connection, _replacing(connection.dialect.name, table), changed)


@lru_cache
def _replacing(dialect: str, table: Table) -> Insert:
    new = insert_for(dialect, table)
    values = {name: new.excluded[name] for name in (*COUNTERS, "start_us", "end_us")}
    keys = table.primary_key.columns.keys()
    return new.on_conflict_do_update(index_elements=list(keys), set_=values)


def _devices(connection: Connection, resources: Iterable[str]) -> dict[str, tuple[str, int, int]]:
    """Device model, devices and slots of resources."""
    r, wanted = measured.resource.c, sorted(resources)
    found: dict[str, tuple[str, int, int]] = {}
    for chunk in chunks(wanted):
        query = select(r.resource_id, r.device_model, r.device_count, r.slots)
        rows = connection.execute(query.where(r.resource_id.in_(chunk)))
        found |= {row[0]: (row[1], row[2], row[3]) for row in rows}
    return found


def _merge(
    sums: dict[tuple[Any, ...], dict[str, int]], key: tuple[Any, ...], one: Mapping[str, Any]
) -> None:
    before = sums.get(key)
    if before is None:
        sums[key] = {name: one[name] for name in (*COUNTERS, "start_us", "end_us")}
        return
    for name in COUNTERS:
        before[name] += one[name]
    before["start_us"] = min(before["start_us"], one["start_us"])
    before["end_us"] = max(before["end_us"], one["end_us"])


def _known(
    connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]
) -> list[Mapping[str, Any]]:
    columns = tuple_(*table.primary_key.columns)
    found: list[Mapping[str, Any]] = []
    for chunk in chunks(keys):
        query = select(table).where(columns.in_(chunk))
        found += [dict(row) for row in connection.execute(query).mappings()]
    return found


def add_boots(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Count windows of both kinds into their producers' boots; nobody numbered inferred ones."""
    boots: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row["producer_id"] == COLLECTOR:
            continue
        one = boots.setdefault(
            (row["producer_id"], row["boot_id"]),
            {"producer_id": row["producer_id"], "boot_id": row["boot_id"], "model": None,
             "received": 0, "highest_seq": 0, "start_us": row["window_start_us"], "end_us": 0},
        )  # fmt: skip
        if model := row.get("model"):  # of several the first by name, in whatever order they came
            one["model"] = min(one["model"] or model, model)
        one["received"] += 1
        one["highest_seq"] = max(one["highest_seq"], row["seq"])
        one["start_us"] = min(one["start_us"], row["window_start_us"])
        one["end_us"] = max(one["end_us"], row["window_end_us"])
    if not boots:
        return
    lite = connection.dialect.name == "sqlite"
    new = insert_into(connection, projections.boot)
    least, most = (func.min, func.max) if lite else (func.least, func.greatest)
    old, given = projections.boot.c, new.excluded
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["producer_id", "boot_id"],
            set_={
                "model": least(
                    func.coalesce(old.model, given.model), func.coalesce(given.model, old.model)
                ),
                "received": old.received + given.received,
                "highest_seq": most(old.highest_seq, given.highest_seq),
                "start_us": least(old.start_us, given.start_us),
                "end_us": most(old.end_us, given.end_us),
            },
        ),
        list(boots.values()),
    )


def rebuild(connection: Connection) -> None:
    """Make every sum anew from entries and windows."""
    projections.make_anew(connection)
    for entries in _pages(connection, ledger.entry, ledger.entry.c.seq):
        add_entries(connection, entries)
    for windows in _pages(connection, measured.usage_window, measured.usage_window.c.idem_key):
        add_usage(connection, windows)
        add_boots(connection, windows)
    for windows in _pages(connection, measured.supply_window, measured.supply_window.c.idem_key):
        add_boots(connection, windows)


def _pages(
    connection: Connection, table: Table, key: Any, size: int = 20_000
) -> Iterable[Sequence[Any]]:
    last: Any = None
    while True:
        query = select(table).order_by(key).limit(size)
        if last is not None:
            query = query.where(key > last)
        rows = connection.execute(query).mappings().all()
        if not rows:
            return
        yield rows
        last = rows[-1][key.name]


def folded(connection: Connection) -> dict[tuple[int, str], int]:
    """Balances computed from the entries alone, to compare with the stored ones."""
    e = ledger.entry
    tier = func.coalesce(e.c.tier, "")
    sides = union_all(
        select(e.c.debit_account.label("account_id"), tier.label("tier"), e.c.amount),
        select(e.c.credit_account, tier, -e.c.amount),
    ).subquery()
    query = select(sides.c.account_id, sides.c.tier, func.sum(sides.c.amount)).group_by(
        sides.c.account_id, sides.c.tier
    )
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(query) if row[2]}
