"""What both arms of a rollout answered, as its metrics count it: intervals, spread, the newest.

A unit (a user, a device) counts once: an interval has the units that were active in it and had no
such event before, and those of them for which it came now. A request without a unit is its own.
Answers from the cache and requests that named their version say nothing of either arm. What stable
answered because the candidate could not be reached is an error of the candidate's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from itertools import takewhile
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    case,
    distinct,
    func,
    literal,
    or_,
    select,
)

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.fallbacks import arm_of, in_place_of
from steelyard.adapters.sql.latest import latest_answers
from steelyard.adapters.sql.pairs import disagreements, numbered, one_alone_wrong
from steelyard.adapters.sql.predictions import executed, is_error
from steelyard.domain.analysis import Metric
from steelyard.domain.e_process import Interval
from steelyard.domain.latest_answers import Answers, Window
from steelyard.domain.rollout import Stretch
from steelyard.domain.rollout_plan import LOOKED_BACK
from steelyard.domain.unit_spread import Spread

ARMS = ("canary", "stable")
NAMES = ("model", "lineage")
"""What of a stretch is text."""
Found = dict[tuple[int, int], Interval]


class ArmStore:
    """Counts over predictions and labels."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def intervals(self, metric: Metric, stretch: Stretch) -> Found:
        """The intervals of a metric by (generation, start); energy's are of generation 0."""
        counts: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
        with reading(self._engine) as connection:
            for generation, number, arm, n, x in connection.execute(
                _intervals(metric), asdict(stretch)
            ):
                key = (generation, stretch.origin_us + int(number) * stretch.interval_us)
                counts.setdefault(key, {})[arm] = (int(n), int(x or 0))
        nothing = (0, 0)
        return {
            key: Interval(*arms.get("canary", nothing), *arms.get("stable", nothing))
            for key, arms in counts.items()
        }

    def spread(self, metric: Metric, stretch: Stretch) -> tuple[Spread, Spread]:
        """How requests and events of a metric spread over units: (canary's, stable's)."""
        rows = _answers(metric, stretch).subquery()
        unit = (
            select(rows.c.arm, func.count().label("n"), func.sum(rows.c.event).label("x"))
            .where(rows.c.received_us >= stretch.start_us)
            .group_by(rows.c.arm, rows.c.unit)
            .subquery()
        )
        n, x = unit.c.n, unit.c.x
        query = select(
            unit.c.arm, func.sum(n), func.sum(x), func.sum(x * x), func.sum(x * n), func.sum(n * n)
        ).group_by(unit.c.arm)
        with reading(self._engine) as connection:
            found = {arm: Spread(*map(int, sums)) for arm, *sums in connection.execute(query)}
        canary, stable = (found.get(arm, Spread()) for arm in ARMS)
        return canary, stable

    def latest(self, rollout_ids: Sequence[str], window: Window) -> dict[str, list[Answers]]:
        """What the arms of each of these rollouts answered in a window, in one query."""
        with reading(self._engine) as connection:
            return latest_answers(connection, rollout_ids, window)

    def failures_in_a_row(self, stretch: Stretch) -> tuple[int, int]:
        """The candidate's newest answers that all failed, seen or unseen, and their units."""
        p = t.prediction
        arm, fallback = _arm_or_shadow(stretch), _fallback(stretch)
        failed = case((or_(fallback, is_error(p.c.status)), 1), else_=0)
        newest = (
            select(_unit(), failed)
            .where(_ours(stretch, arm), arm == "canary")
            .order_by(p.c.received_us.desc())
            .limit(LOOKED_BACK)
        )
        with reading(self._engine) as connection:
            found = list(takewhile(itemgetter(1), connection.execute(newest)))
        return len(found), len({unit for unit, _ in found})


@lru_cache(maxsize=64)
def _intervals(metric: Metric) -> Select[Any]:
    """The query of a metric's intervals, built once; its stretch is bound when it is asked."""
    bound: Any = SimpleNamespace(**{
        one.name: bindparam(one.name, type_=Text() if one.name in NAMES else BigInteger())
        for one in fields(Stretch)
    })  # fmt: skip
    summed = SUMMED.get(metric.name)
    return _first_events(metric, bound) if summed is None else summed(bound)


def _ours(stretch: Stretch, arm: ColumnElement[Any] = t.prediction.c.arm) -> ColumnElement[bool]:
    return and_(_of_both(stretch, arm), t.prediction.c.received_us < stretch.end_us)


def _of_both(stretch: Stretch, arm: ColumnElement[Any]) -> ColumnElement[bool]:
    """Stable's answers, and as the canary's only this candidate's: others may be beside it."""
    p = t.prediction
    fallback = p.c.arm == "fallback"
    return and_(
        p.c.model == stretch.model, p.c.lineage == stretch.lineage, arm.in_(ARMS),
        p.c.received_us >= stretch.origin_us, or_(executed(), fallback),
        or_(arm == "stable", p.c.version == stretch.candidate, fallback),
    )  # fmt: skip


def _arm_or_shadow(stretch: Stretch) -> ColumnElement[Any]:
    """The arm, where copies that the candidate answered are the canary's: they can fail, too."""
    p = t.prediction
    repeated = and_(p.c.arm == "shadow", p.c.version == stretch.candidate)
    return case((repeated, "canary"), else_=arm_of(_fallback(stretch)))


def _fallback(stretch: Stretch) -> ColumnElement[bool]:
    return in_place_of(stretch.first_bucket, stretch.end_bucket)


def _unit() -> ColumnElement[Any]:
    return func.coalesce(t.prediction.c.unit_sha256, t.prediction.c.prediction_id)


def _answers(metric: Metric, stretch: Stretch) -> Select[Any]:
    """Every answer that counts for a metric: generation, time, arm, unit, and if it is an event."""
    p, label = t.prediction, t.label
    fallback = _fallback(stretch)
    # Only what asks whether there was an answer can tell anything by one that was not given.
    arm = arm_of(fallback) if metric.name == "errors" else p.c.arm
    event = {
        "errors": case((or_(fallback, is_error(p.c.status)), 1), else_=0),
        "timeouts": case((p.c.status == 504, 1), else_=0),
        "latency": case((p.c.latency_us > (metric.slo_ms or 0) * 1_000, 1), else_=0),
        "labels": case((p.c.classes == label.c.classes, 0), else_=1),
    }[metric.name]
    query = select(
        p.c.generation, p.c.received_us, arm.label("arm"), _unit().label("unit"),
        event.label("event"),
    ).where(_ours(stretch, arm))  # fmt: skip
    if metric.name == "labels":
        return query.join(label, label.c.prediction_id == p.c.prediction_id)
    return query.where(p.c.latency_us.is_not(None)) if metric.name == "latency" else query


def _first_events(metric: Metric, stretch: Stretch) -> Select[Any]:
    """Units that were active without an event before, and those that had their first one."""
    rows = _answers(metric, stretch).subquery()
    first = (
        select(rows.c.unit, func.min(rows.c.received_us).label("at_us"))
        .where(rows.c.event == 1)
        .group_by(rows.c.unit)
        .subquery()
    )
    number = numbered(rows.c.received_us, stretch)
    came = numbered(first.c.at_us, stretch)
    return (
        select(
            rows.c.generation, number.label("number"), rows.c.arm,
            func.count(distinct(rows.c.unit)),
            func.count(distinct(case((rows.c.received_us == first.c.at_us, rows.c.unit)))),
        )
        .select_from(_with_first(rows, first))
        .where(rows.c.received_us >= stretch.start_us)
        .where(or_(first.c.at_us.is_(None), came >= number))
        .group_by(rows.c.generation, number, rows.c.arm)
    )  # fmt: skip


def _with_first(rows: Subquery, first: Subquery) -> Any:
    return rows.outerjoin(first, first.c.unit == rows.c.unit)


def _sums(stretch: Stretch) -> Select[Any]:
    """Requests and their device time in µs: at one price that is what they cost."""
    p = t.prediction
    number = numbered(p.c.received_us, stretch)
    return (
        select(p.c.generation, number, p.c.arm, func.count(), func.sum(p.c.busy_ns // 1_000))
        .where(_ours(stretch), p.c.received_us >= stretch.start_us)
        .group_by(p.c.generation, number, p.c.arm)
    )


def _energy(stretch: Stretch) -> Select[Any]:
    """Requests and the energy of the replicas that answered them; windows name no generation."""
    usage, supply = t.usage_window, t.supply_window
    arm = case((usage.c.version == stretch.candidate, "canary"), else_="stable")
    number = numbered(usage.c.window_start_us, stretch)
    return (
        select(literal(0), number, arm, func.sum(usage.c.requests), func.sum(supply.c.energy_mj))
        .join(supply, and_(supply.c.resource_id == usage.c.resource_id,
                           supply.c.window_start_us == usage.c.window_start_us))
        .where(usage.c.model == stretch.model, usage.c.activity == "serve",
               usage.c.version.in_((stretch.candidate, stretch.stable)),
               supply.c.energy_mj.is_not(None), usage.c.window_start_us >= stretch.start_us,
               usage.c.window_start_us < stretch.end_us)
        .group_by(number, arm)
    )  # fmt: skip


SUMMED: Mapping[str, Callable[[Stretch], Select[Any]]] = {
    "cost": _sums, "energy": _energy, "disagreement": disagreements, "paired": one_alone_wrong,
}  # fmt: skip
"""What is not counted by answers of units: sums of whole intervals, and what a shadow repeated."""
