"""The store of rollouts: their state, events, weight tables and promotions.

A rollout's row is changed by compare-and-set on ``row_version``; what happened is appended to
``rollout_event`` and ``promotion``, both hash-chained.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, func, select, update

from steelyard.adapters.sql.applications import ApplicationStore
from steelyard.adapters.sql.chained_rows import append_chained, first_broken
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.fleet import FleetStore
from steelyard.adapters.sql.leases import LeaseStore, fence
from steelyard.adapters.sql.observations import ObservationStore
from steelyard.adapters.sql.rollout_rows import (
    OPEN_PHASES,
    add_rollout,
    change_rollout,
    read_open,
    read_rollout,
)
from steelyard.adapters.sql.tables import delivery, models
from steelyard.adapters.sql.weight_tables import (
    add_route,
    intended,
    live_since,
    newest_route,
    see_live,
)
from steelyard.domain.candidates import apart, moved
from steelyard.domain.errors import Conflict
from steelyard.domain.hash_chain import Break
from steelyard.domain.promotion import Change, Promotion
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_record import Move, Stored
from steelyard.domain.traffic import Route

CONFIRMED = Change("controller", "confirm")
CHAINED = (delivery.rollout_event, delivery.promotion, models.alias_drift, models.version_deletion)


class RolloutStore:
    """Rollouts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fleet = FleetStore(engine)
        self.observations = ObservationStore(engine)
        self.applications = ApplicationStore(engine)
        self.leases = LeaseStore(engine)

    def create(self, begun: Sequence[tuple[Rollout, Change]]) -> list[Stored]:
        """Start a rollout, or several candidates of one model together.

        Raises:
            Conflict: another one of the same model is open that they cannot be beside, or another
                version than their stable one has taken all traffic meanwhile.
        """
        model = begun[0][0].model
        with writing(self._engine) as connection:
            _check_stable(connection, begun[0][0])
            beside = [stored.rollout for stored in read_open(connection, model)]
            for rollout, _ in begun:
                if not all(apart(rollout, other) for other in beside):
                    raise Conflict(
                        f"A rollout of {model} is open already.",
                        f"See it with `steelyard rollout status {model}`; "
                        "promote or abort it first.",
                    )
                beside.append(rollout)
            return [add_rollout(connection, rollout, change) for rollout, change in begun]

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
            fence(connection, token)
            if route is not None:
                _check_seen(connection, route.model, seen)
                moves = _tabled(connection, moves, route, now_us)
            return [change_rollout(connection, move, now_us) for move in moves]

    def tell(self, moves: Sequence[Move], token: int) -> None:
        """Say of rollouts that only wait what they wait for; one that changed meanwhile is left.

        Raises:
            Conflict: another controller took over.
        """
        if not moves:
            return
        r = delivery.rollout
        said = (
            update(r)
            .where(r.c.rollout_id == bindparam("name"), r.c.row_version == bindparam("seen"))
            .values(reason=bindparam("told"))
        )
        rows = [{"name": move.after.rollout_id, "seen": move.before.row_version,
                 "told": move.after.reason} for move in moves]  # fmt: skip
        with writing(self._engine) as connection:
            fence(connection, token)
            connection.execute(said, rows)

    def confirm(self, model: str, generation: int, now_us: int, token: int) -> None:
        """A weight table was seen live: from the first time on, what rests on it is confirmed.

        Raises:
            Conflict: another controller took over.
        """
        with writing(self._engine) as connection:
            fence(connection, token)
            see_live(connection, model, generation, now_us)
            for stored in read_open(connection, model):
                rollout = stored.rollout
                if rollout.confirmed_us is None and 0 < rollout.generation <= generation:
                    since = live_since(connection, model, rollout.generation)
                    after = replace(rollout, confirmed_us=since)
                    change_rollout(connection, Move(stored, after, CONFIRMED), now_us)

    def open_rollouts(self, model: str) -> list[Stored]:
        """The rollouts of a model that still move or wait, by the version of their candidate."""
        with reading(self._engine) as connection:
            return read_open(connection, model)

    def open_rollout(self, model: str) -> Stored | None:
        """The first of them: the only one, unless candidates are compared."""
        return next(iter(self.open_rollouts(model)), None)

    def all_open(self) -> list[Stored]:
        """The rollouts of all models that still move or wait, oldest first."""
        r = delivery.rollout
        query = select(r).where(r.c.phase.in_(OPEN_PHASES)).order_by(r.c.created_us, r.c.candidate)
        with reading(self._engine) as connection:
            return [read_rollout(row) for row in connection.execute(query).mappings()]

    def rollouts(self, model: str | None = None, limit: int = 200) -> list[Stored]:
        """Open ones, then newest first: a set clock hides no open one, nor a loser its winner."""
        r = delivery.rollout
        order = (r.c.ended_us.is_not(None), r.c.created_us.desc(), r.c.ended_us.desc())
        query = select(r).order_by(*order).limit(limit)
        if model is not None:
            query = query.where(delivery.rollout.c.model == model)
        with reading(self._engine) as connection:
            return [read_rollout(row) for row in connection.execute(query).mappings()]

    def earlier_attempts(self, rollout: Rollout) -> list[Rollout]:
        """Rollouts of the same pair of versions whose cohort this one has again, oldest first."""
        r = delivery.rollout
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
            return sorted(connection.execute(select(delivery.rollout.c.model).distinct()).scalars())

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

    def promote(self, promotion: Promotion, token: int | None = None) -> None:
        """Append to the promotion history; the same rollout's promotion is recorded once.

        Raises:
            Conflict: another controller took over.
        """
        with writing(self._engine) as connection:
            fence(connection, token)
            p = delivery.promotion
            known = select(p.c.seq).where(
                p.c.rollout_id == promotion.rollout_id, p.c.alias == promotion.alias
            )
            if connection.execute(known).first() is None:
                append_chained(connection, p, asdict(promotion))

    def promotions(self, model: str | None = None) -> list[Promotion]:
        """What was promoted, of one model or of all, oldest first."""
        p = delivery.promotion
        query = select(p).order_by(p.c.seq)
        if model is not None:
            query = query.where(p.c.model == model)
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [Promotion(**{k: row[k] for k in Promotion.__dataclass_fields__}) for row in rows]

    def events(self, rollout_id: str) -> list[dict[str, Any]]:
        """What happened to a rollout, oldest first."""
        e = delivery.rollout_event
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(e).where(e.c.rollout_id == rollout_id).order_by(e.c.seq)
            )
            return [dict(row) for row in rows.mappings()]

    def newest_event(self) -> int:
        """The number of the last decision about any rollout; 0 before the first."""
        with reading(self._engine) as connection:
            return connection.execute(select(func.max(delivery.rollout_event.c.seq))).scalar() or 0

    def first_break(self) -> tuple[str, Break] | None:
        """Recompute every chain about delivery: the first row that does not hold."""
        with reading(self._engine) as connection:
            return first_broken(connection, CHAINED)


def _check_stable(connection: Connection, begun: Rollout) -> None:
    """While its gates were looked at, another rollout may have come to its end."""
    live = newest_route(connection, begun.model)
    if live is not None and live.stable != begun.stable:
        raise Conflict(
            f"{begun.model} was changed meanwhile: stable is version {live.stable} now.",
            f"See it with `steelyard rollout status {begun.model}`, then try again.",
        )


def _check_seen(connection: Connection, model: str, seen: Sequence[Stored]) -> None:
    r = delivery.rollout
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
