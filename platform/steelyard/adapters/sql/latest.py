"""The latest answers of many rollouts at once: one query for all that have the same window."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select

from steelyard.adapters.sql.fallbacks import arm_of, in_place_of
from steelyard.adapters.sql.insert import chunks
from steelyard.adapters.sql.predictions import executed, is_error
from steelyard.adapters.sql.tables import audit, delivery
from steelyard.domain.latest_answers import Answers, Window
from steelyard.domain.traffic import BUCKETS


def latest_answers(
    connection: Connection, rollout_ids: Sequence[str], window: Window
) -> dict[str, list[Answers]]:
    """What each rollout's arms answered in a window; nothing of what came before it began."""
    found: dict[str, list[Answers]] = {}
    moments = {"since": window.since_us, "settled": window.settled_us,
               "recent": window.recent_us, "until": window.until_us}  # fmt: skip
    for some in chunks(rollout_ids):
        for row in connection.execute(_answers(), {**moments, "ids": list(some)}):
            name, by, generation, *counts = row
            found.setdefault(name, []).append(Answers(by, generation, *map(int, counts)))
    return found


@lru_cache
def _answers() -> Select[Any]:
    p, r = audit.prediction.c, delivery.rollout.c
    whole = r.weight_bp == BUCKETS
    fallback = in_place_of(case((whole, 0), else_=r.offset_bp),
                           case((whole, BUCKETS), else_=r.offset_bp + r.max_weight_bp))  # fmt: skip
    arm = arm_of(fallback)
    failed = or_(fallback, is_error(p.status))
    # What the candidate did not execute is no request of its.
    counts = and_(or_(p.arm != "shadow", p.status == 200), p.arm != "fallback")
    settled = p.received_us < bindparam("settled")
    until = p.received_us < bindparam("until")
    late = and_(p.received_us >= bindparam("recent"), until)
    return (
        select(
            r.rollout_id, arm, p.generation, _number(and_(counts, settled)),
            _number(and_(counts, ~settled)), _number(late), _number(and_(late, failed)),
            func.max(case((and_(until, failed), p.received_us), else_=0)),
            func.max(case((and_(until, ~failed), p.received_us), else_=0)),
        )
        .select_from(delivery.rollout.join(audit.prediction, and_(
            p.model == r.model, p.lineage == r.lineage, p.received_us >= bindparam("since"),
            p.received_us >= r.created_us,
        )))
        .where(
            r.rollout_id.in_(bindparam("ids", expanding=True)),
            or_(and_(p.arm == "stable", executed()), fallback,
                and_(p.arm.in_(("canary", "shadow")), p.version == r.candidate, executed())),
        )
        .group_by(r.rollout_id, arm, p.generation)
    )  # fmt: skip


def _number(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))
