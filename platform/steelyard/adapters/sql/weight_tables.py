"""Weight tables in SQL: what was intended for a model, and when it was first seen live."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select

from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import delivery
from steelyard.domain.rollout import Rollout
from steelyard.domain.traffic import Route, Share, in_order


def newest_route(connection: Connection, model: str) -> Route | None:
    """The weight table with the highest generation."""
    i = delivery.traffic_intent
    query = select(i).where(i.c.model == model).order_by(i.c.generation.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else read_route(row)


def add_route(connection: Connection, route: Route, cause: Rollout, at_us: int) -> int:
    """Intend a table; its generation. ``cause`` is the rollout whose step it is, or one of them."""
    generation = _next_generation(connection, route.model)
    weight_bp = next((s.weight_bp for s in route.shares if s.version == cause.candidate), 0)
    connection.execute(insert(delivery.traffic_intent), {
        "model": route.model, "generation": generation, "rollout_id": cause.rollout_id,
        "stable": route.stable, "canary": cause.candidate if weight_bp else None,
        "weight_bp": weight_bp, "lineage": route.lineage, "step": cause.step,
        "created_us": at_us, "shares": _text(route.shares),
    })  # fmt: skip
    return generation


def _next_generation(connection: Connection, model: str) -> int:
    i = delivery.traffic_intent
    newest = connection.execute(select(func.max(i.c.generation)).where(i.c.model == model))
    return (newest.scalar() or 0) + 1


def intended(
    connection: Connection, model: str, generation: int, version: int | None
) -> dict[str, Any] | None:
    """A table as it is kept; with ``version`` as that candidate's, when another one's step made it.

    ``rollout_id``, ``step``, ``canary`` and ``weight_bp`` are then of the rollout of that version.
    """
    i = delivery.traffic_intent
    query = select(i).where(i.c.model == model, i.c.generation == generation)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    share = next((one for one in _shares(row) if one.version == version), None)
    if share is None or version == row["canary"]:
        return dict(row)
    r, e = delivery.rollout, delivery.rollout_event
    newest = (
        select(e.c.rollout_id, e.c.step)
        .join(r, r.c.rollout_id == e.c.rollout_id)
        .where(r.c.model == model, r.c.lineage == row["lineage"], r.c.candidate == version,
               e.c.generation.between(1, generation))
        .order_by(e.c.seq.desc())
        .limit(1)
    )  # fmt: skip
    known = connection.execute(newest).mappings().one()
    return {**row, **known, "canary": version, "weight_bp": share.weight_bp}


def see_live(connection: Connection, model: str, generation: int, at_us: int) -> None:
    """Remember when a table was first seen live; repeating it changes nothing."""
    row = {"model": model, "generation": generation, "confirmed_us": at_us}
    insert_new(connection, delivery.traffic_confirmation, [row], ("model", "generation"))


def live_since(connection: Connection, model: str, generation: int) -> int | None:
    """When a table or a later one, which holds its weights as well, was first seen live."""
    c = delivery.traffic_confirmation
    query = select(func.min(c.c.confirmed_us)).where(
        c.c.model == model, c.c.generation >= generation
    )
    return connection.execute(query).scalar()


def read_route(row: RowMapping) -> Route:
    """A row as a weight table."""
    return Route(
        row["model"], row["stable"], row["generation"], in_order(_shares(row)), row["lineage"]
    )


def _text(shares: Sequence[Share]) -> str:
    return ",".join(f"{s.version}:{s.offset_bp}:{s.weight_bp}" for s in shares)


def _shares(row: RowMapping) -> list[Share]:
    """Of the one candidate that a table had before there could be several, or of all."""
    if row["shares"] is None:
        return [Share(row["canary"], 0, row["weight_bp"])] if row["canary"] else []
    parts = [one.split(":") for one in row["shares"].split(",") if one]
    return [Share(*map(int, part)) for part in parts]
