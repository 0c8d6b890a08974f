"""What both arms of a rollout answered, as its metrics count it: intervals, spread, the newest.

A unit (a user, a device) counts once: an interval has the units that were active in it and had no
such event before, and those of them for which it came now. A request without a unit is its own.
Answers from the cache and requests that named their version say nothing of either arm.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    Subquery,
    and_,
    case,
    distinct,
    func,
    literal,
    or_,
    select,
)

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.predictions import is_error
from steelyard.domain.analysis import Metric
from steelyard.domain.e_process import Interval
from steelyard.domain.rollout import Recent, Stretch
from steelyard.domain.rollout_plan import LOOKED_BACK
from steelyard.domain.unit_spread import Spread

ARMS = ("canary", "stable")
Found = dict[tuple[int, int], Interval]


class ArmStore:
    """Counts over predictions and labels."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def intervals(self, metric: Metric, stretch: Stretch) -> Found:
        """The intervals of a metric by (generation, start); energy's are of generation 0."""
        summed = SUMMED.get(metric.name)
        query = _first_events(metric, stretch) if summed is None else summed(stretch)
        counts: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
        with reading(self._engine) as connection:
            for generation, number, arm, n, x in connection.execute(query):
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

    def recent(self, stretch: Stretch) -> Recent:
        """What the guard looks at: the newest answers, and all of the stretch."""
        p = t.prediction
        failed = case((is_error(p.c.status), 1), else_=0)
        ours = _ours(stretch)
        newest = (
            select(_unit(), failed)
            .where(ours, p.c.arm == "canary")
            .order_by(p.c.received_us.desc())
            .limit(LOOKED_BACK)
        )
        counted = (
            select(p.c.arm, func.count(), func.sum(failed))
            .where(ours, p.c.received_us >= stretch.start_us)
            .group_by(p.c.arm)
        )
        units: set[str] = set()
        row = 0
        with reading(self._engine) as connection:
            for unit, bad in connection.execute(newest):
                if not bad:
                    break
                row += 1
                units.add(unit)
            arms = {arm: (int(n), int(x)) for arm, n, x in connection.execute(counted)}
        return Recent(row, len(units), arms.get("canary", (0, 0)), arms.get("stable", (0, 0)))

    def canary_requests(
        self, model: str, lineage: str, since_us: int, generation: int | None = None
    ) -> int:
        """Executed canary requests since a moment: under one weight table, or all."""
        p = t.prediction
        query = select(func.count()).where(
            p.c.model == model,
            p.c.lineage == lineage,
            p.c.arm == "canary",
            _executed(),
            p.c.received_us >= since_us,
        )
        if generation is not None:
            query = query.where(p.c.generation == generation)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()


def _executed() -> ColumnElement[bool]:
    """Records from before there was a cache do not say that they are not from it."""
    cached = t.prediction.c.cached
    return or_(cached.is_(None), cached == 0)


def _ours(stretch: Stretch) -> ColumnElement[bool]:
    p = t.prediction
    return and_(
        p.c.model == stretch.model, p.c.lineage == stretch.lineage, p.c.arm.in_(ARMS),
        p.c.received_us >= stretch.origin_us, p.c.received_us < stretch.end_us, _executed(),
    )  # fmt: skip


def _unit() -> ColumnElement[Any]:
    return func.coalesce(t.prediction.c.unit_sha256, t.prediction.c.prediction_id)


def _answers(metric: Metric, stretch: Stretch) -> Select[Any]:
    """Every answer that counts for a metric: generation, time, arm, unit, and if it is an event."""
    p, label = t.prediction, t.label
    event = {
        "errors": case((is_error(p.c.status), 1), else_=0),
        "timeouts": case((p.c.status == 504, 1), else_=0),
        "latency": case((p.c.latency_us > (metric.slo_ms or 0) * 1_000, 1), else_=0),
        "labels": case((p.c.classes == label.c.classes, 0), else_=1),
    }[metric.name]
    query = select(
        p.c.generation, p.c.received_us, p.c.arm, _unit().label("unit"), event.label("event")
    ).where(_ours(stretch))
    if metric.name == "labels":
        return query.join(label, label.c.prediction_id == p.c.prediction_id)
    return query.where(p.c.latency_us.is_not(None)) if metric.name == "latency" else query


def _numbered(received_us: ColumnElement[int], stretch: Stretch) -> ColumnElement[int]:
    return (received_us - stretch.origin_us) // stretch.interval_us


def _first_events(metric: Metric, stretch: Stretch) -> Select[Any]:
    """Units that were active without an event before, and those that had their first one."""
    rows = _answers(metric, stretch).subquery()
    first = (
        select(rows.c.unit, func.min(rows.c.received_us).label("at_us"))
        .where(rows.c.event == 1)
        .group_by(rows.c.unit)
        .subquery()
    )
    number = _numbered(rows.c.received_us, stretch)
    came = _numbered(first.c.at_us, stretch)
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
    number = _numbered(p.c.received_us, stretch)
    return (
        select(p.c.generation, number, p.c.arm, func.count(), func.sum(p.c.busy_ns // 1_000))
        .where(_ours(stretch), p.c.received_us >= stretch.start_us)
        .group_by(p.c.generation, number, p.c.arm)
    )


def _disagreements(stretch: Stretch) -> Select[Any]:
    """Answers that the candidate gave in the shadow, and those that differ from the live one's."""
    live, shadow = t.prediction.alias("live"), t.prediction.alias("shadow")
    number = _numbered(live.c.received_us, stretch)
    differs = case((live.c.classes == shadow.c.classes, 0), else_=1)
    return (
        select(live.c.generation, number, literal("canary"), func.count(), func.sum(differs))
        .join(shadow, shadow.c.shadows == live.c.prediction_id)
        .where(live.c.model == stretch.model, live.c.arm == "stable",
               shadow.c.model == stretch.model, shadow.c.version == stretch.candidate,
               live.c.received_us >= stretch.start_us, live.c.received_us < stretch.end_us,
               live.c.status == 200, shadow.c.status == 200)
        .group_by(live.c.generation, number)
    )  # fmt: skip


def _energy(stretch: Stretch) -> Select[Any]:
    """Requests and the energy of the replicas that answered them; windows name no generation."""
    usage, supply = t.usage_window, t.supply_window
    arm = case((usage.c.version == stretch.candidate, "canary"), else_="stable")
    number = _numbered(usage.c.window_start_us, stretch)
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
    "cost": _sums, "energy": _energy, "disagreement": _disagreements,
}  # fmt: skip
"""What is not counted by units: sums of whole intervals, and answers that a shadow repeated."""
