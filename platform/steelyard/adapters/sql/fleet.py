"""All models at once, as a turn of the controller needs them: one query for what each is asked."""

from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, Select, and_, bindparam, func, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.rollout_rows import read_rollout
from steelyard.adapters.sql.tables import delivery
from steelyard.adapters.sql.weight_tables import read_route
from steelyard.domain.promotion import CHAMPION
from steelyard.domain.rollout_record import Stored
from steelyard.domain.traffic import Route


class FleetStore:
    """What is true of every model now. Every method is one query."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def stable(self) -> dict[str, int]:
        """Model -> the version that last earned all traffic."""
        with reading(self._engine) as connection:
            return {row.model: row.to_version for row in connection.execute(_stable())}

    def routes(self) -> dict[str, Route]:
        """Model -> its newest weight table: what the edge should use."""
        with reading(self._engine) as connection:
            rows = connection.execute(_routes()).mappings()
            return {row["model"]: read_route(row) for row in rows}

    def rollouts(self, most: int) -> dict[str, list[Stored]]:
        """Model -> what is open, then the newest, so many at most; of every model there are some.

        A clock that was set back does not hide an open one.
        """
        found: dict[str, list[Stored]] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(_rollouts(), {"most": most}).mappings():
                found.setdefault(row["model"], []).append(read_rollout(row))
        return found

    def without_promotion(self) -> list[Stored]:
        """Rollouts that took all traffic and are not in the history, oldest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(_without_promotion()).mappings()
            return [read_rollout(row) for row in rows]


@lru_cache
def _stable() -> Select[Any]:
    p = delivery.promotion.c
    newest = select(func.max(p.seq)).where(p.alias == CHAMPION).group_by(p.model)
    return select(p.model, p.to_version).where(p.seq.in_(newest)).order_by(p.model)


@lru_cache
def _routes() -> Select[Any]:
    i = delivery.traffic_intent
    newest = (
        select(i.c.model, func.max(i.c.generation).label("generation"))
        .group_by(i.c.model)
        .subquery()
    )
    same = and_(i.c.model == newest.c.model, i.c.generation == newest.c.generation)
    return select(i).join(newest, same).order_by(i.c.model)


@lru_cache
def _rollouts() -> Select[Any]:
    r = delivery.rollout
    order = (r.c.ended_us.is_not(None), r.c.created_us.desc())
    place = func.row_number().over(partition_by=r.c.model, order_by=order).label("place")
    ranked = select(r, place).subquery()
    return (
        select(ranked)
        .where(ranked.c.place <= bindparam("most"))
        .order_by(ranked.c.model, ranked.c.place)
    )


@lru_cache
def _without_promotion() -> Select[Any]:
    r, p = delivery.rollout, delivery.promotion.c
    recorded = select(p.rollout_id).where(p.alias == CHAMPION)
    return (
        select(r)
        .where(r.c.condition == "healthy", r.c.rollout_id.not_in(recorded))
        .order_by(r.c.created_us)
    )
