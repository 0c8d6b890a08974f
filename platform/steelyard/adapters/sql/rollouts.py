"""The store of rollouts: their state, events, traffic tables, observations and promotions.

A rollout's row is changed by compare-and-set on ``row_version``; what happened is appended to
``rollout_event`` and ``promotion``, both hash-chained.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, and_, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.domain.analysis import MetricName
from steelyard.domain.e_process import Interval
from steelyard.domain.errors import Conflict
from steelyard.domain.hash_chain import GENESIS, Break, first_break, link
from steelyard.domain.promotion import Change, Promotion
from steelyard.domain.rollout import CONTROLLER_LEASE, Rollout
from steelyard.domain.rollout_plan import plan_from
from steelyard.domain.traffic import Route


@dataclass(frozen=True, slots=True)
class Stored:
    """A rollout and the row version that a change must name."""

    rollout: Rollout
    row_version: int


class RolloutStore:
    """Rollouts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, rollout: Rollout, change: Change) -> Stored:
        """Start a rollout.

        Raises:
            Conflict: another one of the same model is open.
        """
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(t.rollout), _row(rollout, 1))
                _event(connection, None, rollout, change, rollout.created_us)
        except IntegrityError as error:
            raise Conflict(
                f"A rollout of {rollout.model} is open already.",
                f"See it with `steelyard rollout status {rollout.model}`; "
                "promote or abort it first.",
            ) from error
        return Stored(rollout, 1)

    def save(
        self,
        before: Stored,
        after: Rollout,
        change: Change,
        now_us: int,
        route: Route | None = None,
        token: int | None = None,
    ) -> Stored:
        """Change a rollout: its row, one event if its course changed, and a new weight table.

        ``token`` is the controller's fencing number; a person's verb has none.

        Raises:
            Conflict: somebody else changed it meanwhile, or another controller took over.
        """
        with writing(self._engine) as connection:
            if token is not None and token != _lease_token(connection):
                raise Conflict("Another controller holds the lease.", "This one stands back.")
            if route is not None:
                after = replace(after, generation=_next_generation(connection, after.model))
                connection.execute(insert(t.traffic_intent), _intent(after, route, now_us))
            version = before.row_version + 1
            changed = connection.execute(
                update(t.rollout)
                .where(
                    t.rollout.c.rollout_id == after.rollout_id,
                    t.rollout.c.row_version == before.row_version,
                )
                .values({**_row(after, version), "updated_us": now_us})
            )
            if changed.rowcount != 1:
                raise Conflict(f"Rollout {after.rollout_id} was changed meanwhile.", "Try again.")
            if _course(before.rollout) != _course(after):
                _event(connection, before.rollout, after, change, now_us)
        return Stored(after, version)

    def confirm(self, model: str, generation: int, now_us: int) -> None:
        """Remember when a weight table was first seen live; repeating it changes nothing."""
        row = {"model": model, "generation": generation, "confirmed_us": now_us}
        with writing(self._engine) as connection:
            insert_new(connection, t.traffic_confirmation, [row], ("model", "generation"))

    def open_rollout(self, model: str) -> Stored | None:
        """The rollout of a model that still moves or waits."""
        query = select(t.rollout).where(
            t.rollout.c.model == model, t.rollout.c.phase.in_(("progressing", "paused"))
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return _stored(row) if row else None

    def rollouts(self, model: str | None = None, limit: int = 200) -> list[Stored]:
        """The open one, then newest first; a clock that was set back does not hide it."""
        r = t.rollout
        query = select(r).order_by(r.c.ended_us.is_not(None), r.c.created_us.desc()).limit(limit)
        if model is not None:
            query = query.where(t.rollout.c.model == model)
        with reading(self._engine) as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def models(self) -> list[str]:
        """Every model that was ever deployed."""
        with reading(self._engine) as connection:
            return sorted(connection.execute(select(t.rollout.c.model).distinct()).scalars())

    def route(self, model: str) -> Route | None:
        """The newest weight table that was intended for a model: what the edge should use."""
        i = t.traffic_intent
        query = select(i).where(i.c.model == model).order_by(i.c.generation.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        return Route(row["model"], row["stable"], row["generation"], row["canary"],
                     row["weight_bp"], row["lineage"])  # fmt: skip

    def intent(self, model: str, generation: int) -> dict[str, Any] | None:
        """One weight table with its rollout and step."""
        i = t.traffic_intent
        query = select(i).where(i.c.model == model, i.c.generation == generation)
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row else None

    def observe(
        self, rollout_id: str, metric: str, rows: Mapping[tuple[int, int], Interval], now_us: int
    ) -> None:
        """Keep closed intervals, keyed by (generation, start); a second look changes nothing."""
        values = [
            {"rollout_id": rollout_id, "metric": metric, "generation": generation,
             "interval_start_us": start, "recorded_us": now_us, **asdict(interval)}
            for (generation, start), interval in rows.items()
        ]  # fmt: skip
        keys = ("rollout_id", "metric", "generation", "interval_start_us")
        with writing(self._engine) as connection:
            insert_new(connection, t.observation, values, keys)

    def observations(
        self, rollout_id: str, known_us: int | None = None
    ) -> dict[MetricName, list[Interval]]:
        """All intervals of a rollout, by metric, in order; those that were known at a moment."""
        o = t.observation
        query = select(o).where(o.c.rollout_id == rollout_id).order_by(o.c.interval_start_us)
        if known_us is not None:
            query = query.where(o.c.recorded_us <= known_us)
        found: dict[MetricName, list[Interval]] = {}
        with reading(self._engine) as connection:
            for r in connection.execute(query):
                interval = Interval(r.n_canary, r.x_canary, r.n_stable, r.x_stable)
                found.setdefault(r.metric, []).append(interval)
        return found

    def observed_until(self, rollout_id: str, metric: str) -> int | None:
        """Start of the newest kept interval."""
        o = t.observation
        query = select(func.max(o.c.interval_start_us)).where(
            o.c.rollout_id == rollout_id, o.c.metric == metric
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def promote(self, promotion: Promotion) -> None:
        """Append to the promotion history; the same rollout's promotion is recorded once."""
        with writing(self._engine) as connection:
            p = t.promotion
            known = select(p.c.seq).where(
                p.c.rollout_id == promotion.rollout_id, p.c.alias == promotion.alias
            )
            if connection.execute(known).first() is None:
                _append(connection, p, asdict(promotion))

    def promotions(self, model: str) -> list[Promotion]:
        """The history of a model's aliases, oldest first."""
        p = t.promotion
        query = select(p).where(p.c.model == model).order_by(p.c.seq)
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [Promotion(**{k: row[k] for k in Promotion.__dataclass_fields__}) for row in rows]

    def events(self, rollout_id: str) -> list[dict[str, Any]]:
        """What happened to a rollout, oldest first."""
        e = t.rollout_event
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(e).where(e.c.rollout_id == rollout_id).order_by(e.c.seq)
            )
            return [dict(row) for row in rows.mappings()]

    def first_break(self) -> tuple[str, Break] | None:
        """Recompute the chains of events and promotions: the first row that does not hold."""
        with reading(self._engine) as connection:
            for table in (t.rollout_event, t.promotion):
                rows = connection.execute(select(table).order_by(table.c.seq)).mappings()
                found = first_break((_hashed(table, r), r["prev_hash"], r["hash"]) for r in rows)
                if found:
                    return table.name, found
        return None

    def set_application(
        self, model: str, version: int, phase: str, reason: str, now_us: int
    ) -> None:
        """Publish how a version's application is; ``gone`` removes it from the list."""
        a = t.application
        key = and_(a.c.model == model, a.c.version == version)
        with writing(self._engine) as connection:
            if phase == "gone":
                connection.execute(a.delete().where(key))
                return
            values = {"phase": phase, "reason": reason, "updated_us": now_us}
            if connection.execute(update(a).where(key).values(**values)).rowcount == 0:
                connection.execute(insert(a), {"model": model, "version": version, **values})

    def applications(self) -> list[dict[str, Any]]:
        """How every application is, as the controller saw it last."""
        a = t.application
        with reading(self._engine) as connection:
            rows = connection.execute(select(a).order_by(a.c.model, a.c.version))
            return [dict(row) for row in rows.mappings()]

    def acquire_lease(self, name: str, holder: str, now_us: int, ttl_us: int) -> int | None:
        """Hold or renew a lease; its fencing token, or None while somebody else holds it."""
        lease = t.lease
        with writing(self._engine) as connection:
            row = connection.execute(select(lease).where(lease.c.name == name)).one_or_none()
            if row is None:
                connection.execute(
                    insert(lease),
                    {"name": name, "holder": holder, "token": 1, "expires_us": now_us + ttl_us},
                )
                return 1
            if row.holder != holder and row.expires_us > now_us:
                return None
            token = row.token if row.holder == holder else row.token + 1
            connection.execute(
                update(lease)
                .where(lease.c.name == name)
                .values(holder=holder, token=token, expires_us=now_us + ttl_us)
            )
            return int(token)


def _lease_token(connection: Connection) -> int | None:
    lease = t.lease
    query = select(lease.c.token).where(lease.c.name == CONTROLLER_LEASE)
    return connection.execute(query).scalar()


def _course(rollout: Rollout) -> tuple[object, ...]:
    """What makes an event when it changes; the last two only people change."""
    return (rollout.condition, rollout.step, rollout.weight_bp, rollout.first_step,
            rollout.stopped_us)  # fmt: skip


def _row(rollout: Rollout, row_version: int) -> dict[str, Any]:
    row = {c.name: getattr(rollout, c.name) for c in t.rollout.columns if hasattr(rollout, c.name)}
    plan = json.dumps(asdict(rollout.plan), sort_keys=True)
    return {**row, "plan": plan, "row_version": row_version, "updated_us": rollout.created_us}


def _stored(row: RowMapping) -> Stored:
    values = {k: row[k] for k in Rollout.__dataclass_fields__}
    plan = plan_from(json.loads(row["plan"]))
    return Stored(Rollout(**{**values, "plan": plan}), row["row_version"])


def _next_generation(connection: Connection, model: str) -> int:
    i = t.traffic_intent
    newest = connection.execute(select(func.max(i.c.generation)).where(i.c.model == model))
    return (newest.scalar() or 0) + 1


def _intent(rollout: Rollout, route: Route, now_us: int) -> dict[str, Any]:
    return {"model": rollout.model, "generation": rollout.generation,
            "rollout_id": rollout.rollout_id, "stable": route.stable, "canary": route.canary,
            "weight_bp": route.weight_bp, "lineage": route.lineage, "step": rollout.step,
            "created_us": now_us}  # fmt: skip


def _event(
    connection: Connection, before: Rollout | None, after: Rollout, change: Change, now_us: int
) -> None:
    _append(connection, t.rollout_event, {
        "rollout_id": after.rollout_id, "at_us": now_us, "actor": change.actor,
        "verb": change.verb, "from_condition": before.condition if before else "",
        "to_condition": after.condition, "step": after.step, "weight_bp": after.weight_bp,
        "generation": after.generation, "reason": after.reason, "evidence": change.evidence,
    })  # fmt: skip


def _append(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    last = connection.execute(
        select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)
    ).one_or_none()
    row = {**row, "seq": last.seq + 1 if last else 1, "prev_hash": last.hash if last else GENESIS}
    row["hash"] = link(row["prev_hash"], _hashed(table, row))
    connection.execute(insert(table), row)


def _hashed(table: Table, row: Mapping[str, Any] | RowMapping) -> dict[str, Any]:
    names = [c.name for c in table.columns if c.name not in ("prev_hash", "hash")]
    return {**{name: row[name] for name in names}, "v": 1}
