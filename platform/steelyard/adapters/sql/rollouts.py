"""The store of rollouts: their state, events, traffic tables, observations and promotions.

A rollout's row is changed by compare-and-set on ``row_version``; what happened is appended to
``rollout_event`` and ``promotion``, both hash-chained.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, func, insert, select, update

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.chained_rows import append_chained, first_broken
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.fleet import FleetStore
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.rollout_rows import read_rollout
from steelyard.adapters.sql.weight_tables import (
    add_route,
    intended,
    live_since,
    newest_route,
    see_live,
)
from steelyard.domain.analysis import MetricName
from steelyard.domain.candidates import apart, moved
from steelyard.domain.e_process import Interval
from steelyard.domain.errors import Conflict
from steelyard.domain.hash_chain import Break
from steelyard.domain.promotion import Change, Promotion
from steelyard.domain.replay import Kept
from steelyard.domain.rollout import CONTROLLER_LEASE, Rollout
from steelyard.domain.rollout_record import Move, Stored
from steelyard.domain.traffic import Route

OPEN_PHASES = ("progressing", "paused")
CONFIRMED = Change("controller", "confirm")
CHAINED = (t.rollout_event, t.promotion, t.alias_drift, t.version_deletion)


class RolloutStore:
    """Rollouts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fleet = FleetStore(engine)

    def create(self, begun: Sequence[tuple[Rollout, Change]]) -> list[Stored]:
        """Start a rollout, or several candidates of one model together.

        Raises:
            Conflict: another one of the same model is open that they cannot be beside.
        """
        model = begun[0][0].model
        with writing(self._engine) as connection:
            beside = [stored.rollout for stored in _open(connection, model)]
            for rollout, change in begun:
                if not all(apart(rollout, other) for other in beside):
                    raise Conflict(
                        f"A rollout of {model} is open already.",
                        f"See it with `steelyard rollout status {model}`; "
                        "promote or abort it first.",
                    )
                beside.append(rollout)
                connection.execute(insert(t.rollout), _row(rollout, 1))
                _event(connection, None, rollout, change, rollout.created_us)
        return [Stored(rollout, 1) for rollout, _ in begun]

    def save(
        self, before: Stored, after: Rollout, change: Change, now_us: int, token: int | None = None
    ) -> Stored:
        """Change one rollout without its traffic. Raises as ``move`` does."""
        (stored,) = self.move([Move(before, after, change)], now_us, token=token)
        return stored

    def move(
        self, moves: Sequence[Move], now_us: int, *, seen: Sequence[Stored] = (),
        route: Route | None = None, token: int | None = None,
    ) -> list[Stored]:  # fmt: skip
        """Change rollouts of one model: rows, an event of each changed course, a new weight table.

        ``seen`` are the open ones on which ``route`` rests. ``token`` is the controller's fencing
        number; a person's verb has none.

        Raises:
            Conflict: somebody else changed one of them meanwhile, or another controller took over.
        """
        with writing(self._engine) as connection:
            _fence(connection, token)
            if route is not None:
                _check_seen(connection, route.model, seen)
                moves = _tabled(connection, moves, route, now_us)
            return [_changed(connection, move, now_us) for move in moves]

    def tell(self, moves: Sequence[Move], token: int) -> None:
        """Say of rollouts that only wait what they wait for; one that changed meanwhile is left.

        Raises:
            Conflict: another controller took over.
        """
        if not moves:
            return
        r = t.rollout
        said = (
            update(r)
            .where(r.c.rollout_id == bindparam("name"), r.c.row_version == bindparam("seen"))
            .values(reason=bindparam("told"))
        )
        rows = [{"name": move.after.rollout_id, "seen": move.before.row_version,
                 "told": move.after.reason} for move in moves]  # fmt: skip
        with writing(self._engine) as connection:
            _fence(connection, token)
            connection.execute(said, rows)

    def confirm(self, model: str, generation: int, now_us: int, token: int) -> None:
        """A weight table was seen live: from the first time on, what rests on it is confirmed.

        Raises:
            Conflict: another controller took over.
        """
        with writing(self._engine) as connection:
            _fence(connection, token)
            see_live(connection, model, generation, now_us)
            for stored in _open(connection, model):
                rollout = stored.rollout
                if rollout.confirmed_us is None and 0 < rollout.generation <= generation:
                    since = live_since(connection, model, rollout.generation)
                    after = replace(rollout, confirmed_us=since)
                    _changed(connection, Move(stored, after, CONFIRMED), now_us)

    def open_rollouts(self, model: str) -> list[Stored]:
        """The rollouts of a model that still move or wait, by the version of their candidate."""
        with reading(self._engine) as connection:
            return _open(connection, model)

    def open_rollout(self, model: str) -> Stored | None:
        """The first of them: the only one, unless candidates are compared."""
        return next(iter(self.open_rollouts(model)), None)

    def all_open(self) -> list[Stored]:
        """The rollouts of all models that still move or wait, oldest first."""
        r = t.rollout
        query = select(r).where(r.c.phase.in_(OPEN_PHASES)).order_by(r.c.created_us, r.c.candidate)
        with reading(self._engine) as connection:
            return [read_rollout(row) for row in connection.execute(query).mappings()]

    def rollouts(self, model: str | None = None, limit: int = 200) -> list[Stored]:
        """Open ones, then newest first: a set clock hides no open one, nor a loser its winner."""
        r = t.rollout
        order = (r.c.ended_us.is_not(None), r.c.created_us.desc(), r.c.ended_us.desc())
        query = select(r).order_by(*order).limit(limit)
        if model is not None:
            query = query.where(t.rollout.c.model == model)
        with reading(self._engine) as connection:
            return [read_rollout(row) for row in connection.execute(query).mappings()]

    def earlier_attempts(self, rollout: Rollout) -> list[Rollout]:
        """Rollouts of the same pair of versions whose cohort this one has again, oldest first."""
        r = t.rollout
        query = (
            select(r)
            .where(r.c.model == rollout.model, r.c.lineage == rollout.lineage,
                   r.c.candidate == rollout.candidate, r.c.stable == rollout.stable,
                   r.c.created_us < rollout.created_us)
            .order_by(r.c.created_us, r.c.candidate)
        )  # fmt: skip
        with reading(self._engine) as connection:
            return [read_rollout(row).rollout for row in connection.execute(query).mappings()]

    def models(self) -> list[str]:
        """Every model that was ever deployed."""
        with reading(self._engine) as connection:
            return sorted(connection.execute(select(t.rollout.c.model).distinct()).scalars())

    def route(self, model: str) -> Route | None:
        """The newest weight table that was intended for a model: what the edge should use."""
        with reading(self._engine) as connection:
            return newest_route(connection, model)

    def intent(
        self, model: str, generation: int, version: int | None = None
    ) -> dict[str, Any] | None:
        """One weight table with the rollout and step that made it, or that ``version`` was at."""
        with reading(self._engine) as connection:
            return intended(connection, model, generation, version)

    def observe(
        self, rollout_id: str, metric: str, rows: Mapping[tuple[int, int], Interval], now_us: int,
        token: int | None = None,
    ) -> None:  # fmt: skip
        """Keep closed intervals, keyed by (generation, start); a second look changes nothing.

        Raises:
            Conflict: another controller took over.
        """
        values = [
            {"rollout_id": rollout_id, "metric": metric, "generation": generation,
             "interval_start_us": start, "recorded_us": now_us, **asdict(interval)}
            for (generation, start), interval in rows.items()
        ]  # fmt: skip
        keys = ("rollout_id", "metric", "generation", "interval_start_us")
        with writing(self._engine) as connection:
            _fence(connection, token)
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

    def kept(self, rollout_id: str) -> list[Kept]:
        """Every interval of a rollout with when it became known, in that order."""
        o = t.observation
        query = (
            select(o)
            .where(o.c.rollout_id == rollout_id)
            .order_by(o.c.recorded_us, o.c.interval_start_us)
        )
        with reading(self._engine) as connection:
            return [
                Kept(r.metric, r.recorded_us,
                     Interval(r.n_canary, r.x_canary, r.n_stable, r.x_stable))
                for r in connection.execute(query)
            ]  # fmt: skip

    def observed_until(self, rollout_id: str, metric: str) -> int | None:
        """Start of the newest kept interval."""
        o = t.observation
        query = select(func.max(o.c.interval_start_us)).where(
            o.c.rollout_id == rollout_id, o.c.metric == metric
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def promote(self, promotion: Promotion, token: int | None = None) -> None:
        """Append to the promotion history; the same rollout's promotion is recorded once.

        Raises:
            Conflict: another controller took over.
        """
        with writing(self._engine) as connection:
            _fence(connection, token)
            p = t.promotion
            known = select(p.c.seq).where(
                p.c.rollout_id == promotion.rollout_id, p.c.alias == promotion.alias
            )
            if connection.execute(known).first() is None:
                append_chained(connection, p, asdict(promotion))

    def promotions(self, model: str | None = None) -> list[Promotion]:
        """What was promoted, of one model or of all, oldest first."""
        p = t.promotion
        query = select(p).order_by(p.c.seq)
        if model is not None:
            query = query.where(p.c.model == model)
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

    def newest_event(self) -> int:
        """The number of the last decision about any rollout; 0 before the first."""
        with reading(self._engine) as connection:
            return connection.execute(select(func.max(t.rollout_event.c.seq))).scalar() or 0

    def first_break(self) -> tuple[str, Break] | None:
        """Recompute every chain about delivery: the first row that does not hold."""
        with reading(self._engine) as connection:
            return first_broken(connection, CHAINED)

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


def _fence(connection: Connection, token: int | None) -> None:
    if token is not None and token != _lease_token(connection):
        raise Conflict("Another controller holds the lease.", "This one stands back.")


def _open(connection: Connection, model: str) -> list[Stored]:
    r = t.rollout
    query = select(r).where(r.c.model == model, r.c.phase.in_(OPEN_PHASES)).order_by(r.c.candidate)
    return [read_rollout(row) for row in connection.execute(query).mappings()]


def _check_seen(connection: Connection, model: str, seen: Sequence[Stored]) -> None:
    r = t.rollout
    query = select(r.c.rollout_id, r.c.row_version).where(
        r.c.model == model, r.c.phase.in_(OPEN_PHASES)
    )
    known = {one.rollout.rollout_id: one.row_version for one in seen if one.rollout.is_open}
    if {row.rollout_id: row.row_version for row in connection.execute(query)} != known:
        raise Conflict(f"A rollout of {model} was changed meanwhile.", "Try again.")


def _tabled(connection: Connection, moves: Sequence[Move], route: Route, now_us: int) -> list[Move]:
    """The moves with the number of their weight table, which is written."""
    causes = [move for move in moves if moved(move.before.rollout, move.after)]
    generation = add_route(connection, route, (causes or moves)[0].after, now_us)
    return [
        replace(move, after=replace(move.after, generation=generation)) if move in causes else move
        for move in moves
    ]


def _changed(connection: Connection, move: Move, now_us: int) -> Stored:
    before, after = move.before, move.after
    version = before.row_version + 1
    r = t.rollout
    changed = connection.execute(
        update(r)
        .where(r.c.rollout_id == after.rollout_id, r.c.row_version == before.row_version)
        .values({**_row(after, version), "updated_us": now_us})
    )
    if changed.rowcount != 1:
        raise Conflict(f"Rollout {after.rollout_id} was changed meanwhile.", "Try again.")
    if _course(before.rollout) != _course(after):
        _event(connection, before.rollout, after, move.change, now_us)
    return Stored(after, version)


def _course(rollout: Rollout) -> tuple[object, ...]:
    """What makes an event when it changes; the last two only people change."""
    return (rollout.condition, rollout.step, rollout.weight_bp, rollout.first_step,
            rollout.stopped_us)  # fmt: skip


def _row(rollout: Rollout, row_version: int) -> dict[str, Any]:
    row = {c.name: getattr(rollout, c.name) for c in t.rollout.columns if hasattr(rollout, c.name)}
    plan = json.dumps(asdict(rollout.plan), sort_keys=True)
    return {**row, "plan": plan, "row_version": row_version, "updated_us": rollout.created_us}


def _event(
    connection: Connection, before: Rollout | None, after: Rollout, change: Change, now_us: int
) -> None:
    append_chained(connection, t.rollout_event, {
        "rollout_id": after.rollout_id, "at_us": now_us, "actor": change.actor,
        "verb": change.verb, "from_condition": before.condition if before else "",
        "to_condition": after.condition, "step": after.step, "weight_bp": after.weight_bp,
        "generation": after.generation, "reason": after.reason, "evidence": change.evidence,
    })  # fmt: skip
