"""What two versions answered to the same requests: live answers, and the shadow's copies of them.

One of the two is the rollout's candidate and the other its stable version, whichever of them was
live. Both answered well and named classes; answers from the cache repeat others and are left out.
A unit counts once: with its first pair for ``disagreement``, and until its first pair of which one
alone was wrong for ``paired``.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    and_,
    case,
    distinct,
    func,
    literal,
    or_,
    select,
    union_all,
)

from steelyard.adapters.sql.tables import audit
from steelyard.domain.rollout import Stretch


def disagreements(stretch: Stretch) -> Select[Any]:
    """Units whose first pair came in an interval, and those of them whose classes differ in it."""
    pair = _pairs(stretch)
    first = (
        select(pair.c.unit, func.min(pair.c.received_us).label("at_us"))
        .group_by(pair.c.unit)
        .subquery()
    )
    number = numbered(pair.c.received_us, stretch)
    differs = case((pair.c.candidate_classes != pair.c.stable_classes, pair.c.unit))
    return (
        select(pair.c.generation, number, literal("canary"), func.count(distinct(pair.c.unit)),
               func.count(distinct(differs)))
        .join(first, and_(first.c.unit == pair.c.unit, first.c.at_us == pair.c.received_us))
        .where(pair.c.received_us >= stretch.start_us)
        .group_by(pair.c.generation, number)
    )  # fmt: skip


def one_alone_wrong(stretch: Stretch) -> Select[Any]:
    """Units of which only one version's answer was wrong, for the first time, by that version.

    Both arms have as many requests: the units with labelled pairs that had no such pair before.
    """
    pair, label = _pairs(stretch), audit.label
    candidate_wrong = pair.c.candidate_classes != label.c.classes
    stable_wrong = pair.c.stable_classes != label.c.classes
    graded = (
        select(pair.c.generation, pair.c.received_us, pair.c.unit,
               case((and_(candidate_wrong, ~stable_wrong), 1), else_=0).label("candidate"),
               case((and_(stable_wrong, ~candidate_wrong), 1), else_=0).label("stable"))
        .join(label, label.c.prediction_id == pair.c.prediction_id)
        .cte("graded")
    )  # fmt: skip
    counted = _until_first(graded, stretch).cte("counted")
    generation, number = counted.c.generation, counted.c.number
    both = union_all(
        select(generation, number, literal("canary"), counted.c.n, counted.c.candidate),
        select(generation, number, literal("stable"), counted.c.n, counted.c.stable),
    ).subquery()
    return select(both)


def _until_first(graded: CTE, stretch: Stretch) -> Select[Any]:
    """Intervals of graded pairs: units, and those whose first odd pair is against a version."""
    first = (
        select(graded.c.unit, func.min(graded.c.received_us).label("at_us"))
        .where(graded.c.candidate + graded.c.stable == 1)
        .group_by(graded.c.unit)
        .subquery()
    )
    number = numbered(graded.c.received_us, stretch)
    is_first = graded.c.received_us == first.c.at_us

    def against(version: ColumnElement[int], name: str) -> ColumnElement[int]:
        return func.count(distinct(case((and_(is_first, version == 1), graded.c.unit)))).label(name)

    return (
        select(graded.c.generation, number.label("number"),
               func.count(distinct(graded.c.unit)).label("n"),
               against(graded.c.candidate, "candidate"), against(graded.c.stable, "stable"))
        .select_from(graded.outerjoin(first, first.c.unit == graded.c.unit))
        .where(graded.c.received_us >= stretch.start_us)
        .where(or_(first.c.at_us.is_(None), numbered(first.c.at_us, stretch) >= number))
        .group_by(graded.c.generation, number)
    )  # fmt: skip


def _pairs(stretch: Stretch) -> CTE:
    """Each pair: when and under which weight table the live one came, its unit, both classes."""
    live, copy = audit.prediction.alias("live"), audit.prediction.alias("copy")
    candidate_live = live.c.version == stretch.candidate
    return (
        select(live.c.prediction_id, live.c.generation, live.c.received_us,
               func.coalesce(live.c.unit_sha256, live.c.prediction_id).label("unit"),
               case((candidate_live, live.c.classes), else_=copy.c.classes)
               .label("candidate_classes"),
               case((candidate_live, copy.c.classes), else_=live.c.classes)
               .label("stable_classes"))
        .join(copy, copy.c.shadows == live.c.prediction_id)
        .where(live.c.model == stretch.model, live.c.lineage == stretch.lineage,
               live.c.arm.in_(("stable", "canary")), live.c.status == 200,
               live.c.received_us >= stretch.origin_us, live.c.received_us < stretch.end_us,
               or_(live.c.cached.is_(None), live.c.cached == 0), live.c.classes.is_not(None))
        .where(copy.c.model == stretch.model, copy.c.arm == "shadow", copy.c.status == 200,
               copy.c.classes.is_not(None), copy.c.shadows.is_not(None),
               or_(and_(candidate_live, copy.c.version == stretch.stable),
                   and_(live.c.version == stretch.stable, copy.c.version == stretch.candidate)))
        .cte("pair")
    )  # fmt: skip


def numbered(received_us: ColumnElement[int], stretch: Stretch) -> ColumnElement[int]:
    """Which interval of the rollout a moment falls into, from 0."""
    return (received_us - stretch.origin_us) // stretch.interval_us
