"""The store of measured facts: ingestion with idempotency, and what still waits for posting."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, Table, func, select

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.facts import Fact
from steelyard.domain.hash_chain import digest
from steelyard.domain.metering import (
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)
from steelyard.domain.posting import Owner

F = TypeVar("F")

KEYS: dict[type[Fact], tuple[Table, tuple[str, ...]]] = {
    Resource: (t.resource, ("resource_id",)),
    ResourceEnd: (t.resource_end, ("resource_id",)),
    RunAttempt: (t.run_attempt, ("run_id", "attempt")),
    SupplyWindow: (t.supply_window, ("idem_key",)),
    UsageWindow: (t.usage_window, ("idem_key",)),
    PredictionRecord: (t.prediction, ("prediction_id",)),
}


@dataclass(frozen=True, slots=True)
class Ingested:
    """How many rows were new, known already, and known with other content (kept aside)."""

    new: int
    known: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A supply window that is not in the ledger yet, with the usage inside it.

    ``owners`` are all that the resource ever worked for, in this window or another.
    """

    resource: Resource
    supply: SupplyWindow
    usages: tuple[UsageWindow, ...]
    owners: frozenset[Owner]


class FactStore:
    """Facts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ingest(self, facts: Iterable[Fact], now_us: int) -> Ingested:
        """Store facts; repeating them changes nothing, other content under a key is kept aside."""
        by_kind: dict[type[Fact], list[Fact]] = {}
        for fact in facts:
            by_kind.setdefault(type(fact), []).append(fact)
        new = known = conflicts = 0
        with writing(self._engine) as connection:
            for kind in KEYS:  # resources first: windows refer to them
                rows = [_row(fact, now_us) for fact in by_kind.get(kind, ())]
                table, keys = KEYS[kind]
                inserted = insert_new(connection, table, rows, keys)
                new += len(inserted)
                repeated = len(rows) - len(inserted)
                # All rows, not only the skipped: two may share a key within one report.
                clashes = _conflicts(connection, table, rows, now_us) if repeated else 0
                conflicts += clashes
                known += repeated - clashes
        return Ingested(new, known, conflicts)

    def unposted(self, limit: int = 2_000) -> list[OpenWindow]:
        """Supply windows without entries, oldest first, each with its usage windows."""
        s, u, p = t.supply_window, t.usage_window, t.posted_window
        waiting = (
            select(s)
            .outerjoin(p, p.c.idem_key == s.c.idem_key)
            .where(p.c.idem_key.is_(None))
            .order_by(s.c.window_start_us)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            supplies = [_fact(SupplyWindow, r) for r in connection.execute(waiting).mappings()]
            ids = sorted({w.resource_id for w in supplies})
            resources = {
                r["resource_id"]: _fact(Resource, r)
                for r in connection.execute(
                    select(t.resource).where(t.resource.c.resource_id.in_(ids))
                ).mappings()
            }
            starts = [w.window_start_us for w in supplies]
            inside = (
                select(u)
                .where(u.c.resource_id.in_(ids))
                .where(u.c.window_start_us.between(min(starts, default=0), max(starts, default=0)))
            )
            usages = [_fact(UsageWindow, r) for r in connection.execute(inside).mappings()]
            whose = select(u.c.resource_id, u.c.model, u.c.version, u.c.phase, u.c.run_id)
            owners: dict[str, set[Owner]] = {}
            for row in connection.execute(whose.where(u.c.resource_id.in_(ids)).distinct()):
                owners.setdefault(row.resource_id, set()).add(Owner(*row[1:]))
        grouped: dict[tuple[str, int], list[UsageWindow]] = {}
        for usage in usages:
            grouped.setdefault((usage.resource_id, usage.window_start_us), []).append(usage)
        return [
            OpenWindow(
                resources[w.resource_id], w,
                tuple(grouped.get((w.resource_id, w.window_start_us), ())),
                frozenset(owners.get(w.resource_id, ())),
            )
            for w in supplies
        ]  # fmt: skip

    def silent_resources(self, before_us: int) -> list[tuple[Resource, int]]:
        """Resources that neither ended nor reported since ``before_us``, with their last moment."""
        s, r, e = t.supply_window, t.resource, t.resource_end
        last = (
            select(s.c.resource_id, func.max(s.c.window_end_us).label("last_us"))
            .group_by(s.c.resource_id)
            .subquery()
        )
        moment = func.coalesce(last.c.last_us, r.c.started_us)
        query = (
            select(r, moment.label("moment"))
            .outerjoin(last, last.c.resource_id == r.c.resource_id)
            .outerjoin(e, e.c.resource_id == r.c.resource_id)
            .where(e.c.resource_id.is_(None), moment < before_us)
        )
        with reading(self._engine) as connection:
            return [
                (_fact(Resource, row), row["moment"])
                for row in connection.execute(query).mappings()
            ]

    def usage_sums(self, model: str) -> list[dict[str, Any]]:
        """Usage of a model summed by version, run, phase and activity; FLOPs are exact.

        ``flop`` is None when no window of the group knew its FLOPs.
        """
        u = t.usage_window
        query = select(u).where(u.c.model == model)
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(query):
                key = (row.version, row.run_id, row.phase, row.activity)
                group = groups.setdefault(
                    key,
                    {"version": row.version, "run_id": row.run_id, "phase": row.phase,
                     "activity": row.activity, "requests": 0, "errors": 0, "items": 0,
                     "busy_ns": 0, "flop": None, "start_us": row.window_start_us, "end_us": 0},
                )  # fmt: skip
                for name in ("requests", "errors", "items", "busy_ns"):
                    group[name] += getattr(row, name)
                if row.flop is not None:
                    group["flop"] = (group["flop"] or 0) + row.flop
                group["start_us"] = min(group["start_us"], row.window_start_us)
                group["end_us"] = max(group["end_us"], row.window_end_us)
        return list(groups.values())

    def conflicts(self) -> int:
        """How many rows were refused because their key is taken by other content."""
        with reading(self._engine) as connection:
            count = connection.execute(select(func.count()).select_from(t.usage_conflict))
            return count.scalar_one()


def _row(fact: Fact, now_us: int) -> dict[str, Any]:
    row: dict[str, Any] = asdict(fact)
    if isinstance(fact, SupplyWindow | UsageWindow):
        row |= {"idem_key": fact.idem_key, "content_sha256": digest(asdict(fact)),
                "received_us": now_us}  # fmt: skip
    if isinstance(fact, PredictionRecord):
        row["classes"] = None if fact.classes is None else json.dumps(fact.classes)
    if isinstance(fact, ResourceEnd):
        row["inferred"] = int(fact.inferred)
    return row


def _fact(kind: type[F], row: RowMapping) -> F:
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: row[name] for name in names})


def _conflicts(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], now_us: int
) -> int:
    windows = [row for row in rows if "content_sha256" in row]
    if not windows:
        return 0
    keys = [row["idem_key"] for row in windows]
    known = select(table.c.idem_key, table.c.content_sha256).where(table.c.idem_key.in_(keys))
    stored = {row.idem_key: row.content_sha256 for row in connection.execute(known)}
    clashes = [row for row in windows if stored.get(row["idem_key"]) != row["content_sha256"]]
    insert_new(
        connection,
        t.usage_conflict,
        [
            {
                "conflict_id": sha256(
                    f"{r['idem_key']}|{r['content_sha256']}".encode()
                ).hexdigest(),
                "idem_key": r["idem_key"],
                "stored_sha256": stored.get(r["idem_key"], ""),
                "received_sha256": r["content_sha256"],
                "payload": json.dumps(dict(r)),
                "received_us": now_us,
            }
            for r in clashes
        ],
        ("conflict_id",),
    )
    return len(clashes)
