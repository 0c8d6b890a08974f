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
    Text,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
)

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.fallbacks import arm_of, in_place_of
from steelyard.adapters.sql.latest import latest_answers
from steelyard.adapters.sql.pairs import disagreements, numbered, one_alone_wrong
from steelyard.adapters.sql.predictions import executed, is_error
from steelyard.adapters.sql.tables import audit, measured
from steelyard.domain.analysis import Metric
from steelyard.domain.e_process import Interval
from steelyard.domain.first_events import Active, Counted, Counts, Had, by_arm, counted
from steelyard.domain.latest_answers import Answers, Window
from steelyard.domain.rollout import Stretch
from steelyard.domain.rollout_plan import LOOKED_BACK
from steelyard.domain.unit_spread import Spread

ARMS = ("canary", "stable")
NAMES = ("model", "lineage")
"""What of a stretch is text."""
AT_ONCE = 10_000
"""Rows that are fetched together."""


class ArmStore:
    """Counts over predictions and labels."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def intervals(self, metric: Metric, stretch: Stretch, known: Had | None = None) -> Counted:
        """The intervals of a metric by (generation, start); energy's are of generation 0.

        Units that are ``known`` to have had their event are not looked up again.
        """
        if metric.name in SUMMED:
            found, had = self._summed(metric, stretch), Had(stretch.origin_us)
        else:
            before = self._had_event(metric, stretch, known or Had(stretch.origin_us))
            found, had = self._first_events(metric, stretch, before)
        starts = {
            (generation, stretch.origin_us + number * stretch.interval_us): interval
            for (generation, number), interval in found.items()
        }
        return Counted(starts, had)

    def _summed(self, metric: Metric, stretch: Stretch) -> dict[tuple[int, int], Interval]:
        counts: Counts = {}
        with reading(self._engine) as connection:
            for generation, number, arm, n, x in connection.execute(
                _sums_of(metric), asdict(stretch)
            ):
                counts.setdefault((generation, int(number)), {})[arm] = (int(n), int(x or 0))
        return by_arm(counts)

    def _had_event(self, metric: Metric, stretch: Stretch, known: Had) -> Had:
        """The units that had their event before a stretch."""
        if known.until_us > stretch.start_us:
            known = Had(stretch.origin_us)
        before = {**asdict(stretch), "start_us": known.until_us, "end_us": stretch.start_us}
        with reading(self._engine) as connection:
            units = connection.execute(_with_event(metric), before).scalars()
            return Had(stretch.start_us, known.units.union(units))

    def _first_events(self, metric: Metric, stretch: Stretch, had: Had) -> Counted:
        """One unit after the other is fetched and counted: there may be many."""
        last_us = max(stretch.start_us, stretch.end_us - stretch.interval_us)
        streamed = {"yield_per": AT_ONCE}
        with reading(self._engine) as connection:
            rows = connection.execute(_active(metric), asdict(stretch), execution_options=streamed)
            return counted((Active(*row) for row in rows), had, last_us)

    def spread(self, metric: Metric, stretch: Stretch) -> tuple[Spread, Spread]:
        """How requests and events of a metric spread over units: (canary's, stable's)."""
        rows = _answers(metric, stretch).subquery()
        unit = (
            select(rows.c.arm, func.count().label("n"), func.sum(rows.c.event).label("x"))
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
        p = audit.prediction
        arm, fallback = _arm_or_shadow(stretch), _fallback(stretch)
        failed = case((or_(fallback, is_error(p.c.status)), 1), else_=0)
        newest = (
            select(_unit(), failed)
            .where(_of_both(stretch, arm), arm == "canary")
            .where(p.c.received_us >= stretch.origin_us)
            .order_by(p.c.received_us.desc())
            .limit(LOOKED_BACK)
        )
        with reading(self._engine) as connection:
            found = list(takewhile(itemgetter(1), connection.execute(newest)))
        return len(found), len({unit for unit, _ in found})


BOUND: Any = SimpleNamespace(**{
    one.name: bindparam(one.name, type_=Text() if one.name in NAMES else BigInteger())
    for one in fields(Stretch)
})  # fmt: skip
"""A stretch that is bound when a query is asked, so that the query is built only once."""


@lru_cache(maxsize=64)
def _sums_of(metric: Metric) -> Select[Any]:
    return SUMMED[metric.name](BOUND)


def _ours(
    stretch: Stretch, arm: ColumnElement[Any] = audit.prediction.c.arm
) -> ColumnElement[bool]:
    """The answers of both arms in a stretch, as the canary's only this candidate's."""
    return and_(_of_both(stretch, arm), audit.prediction.c.received_us >= stretch.start_us)


def _of_both(stretch: Stretch, arm: ColumnElement[Any]) -> ColumnElement[bool]:
    """Until the end of a stretch; other candidates may be beside this one."""
    p = audit.prediction
    fallback = p.c.arm == "fallback"
    return and_(
        p.c.model == stretch.model, p.c.lineage == stretch.lineage, arm.in_(ARMS),
        p.c.received_us < stretch.end_us, or_(executed(), fallback),
        or_(arm == "stable", p.c.version == stretch.candidate, fallback),
    )  # fmt: skip


def _arm_or_shadow(stretch: Stretch) -> ColumnElement[Any]:
    """The arm, where copies that the candidate answered are the canary's: they can fail, too."""
    p = audit.prediction
    repeated = and_(p.c.arm == "shadow", p.c.version == stretch.candidate)
    return case((repeated, "canary"), else_=arm_of(_fallback(stretch)))


def _fallback(stretch: Stretch) -> ColumnElement[bool]:
    return in_place_of(stretch.first_bucket, stretch.end_bucket)


def _unit() -> ColumnElement[Any]:
    return func.coalesce(audit.prediction.c.unit_sha256, audit.prediction.c.prediction_id)


def _answers(metric: Metric, stretch: Stretch) -> Select[Any]:
    """Every answer that counts for a metric: where, when, whose it is, and whether an event."""
    p, label = audit.prediction, audit.label
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
        event.label("event"), p.c.unit_sha256.is_not(None).label("recurs"),
    ).where(_ours(stretch, arm))  # fmt: skip
    if metric.name == "labels":
        return query.join(label, label.c.prediction_id == p.c.prediction_id)
    return query.where(p.c.latency_us.is_not(None)) if metric.name == "latency" else query


@lru_cache(maxsize=64)
def _with_event(metric: Metric) -> Select[Any]:
    """The units that had an event in a stretch."""
    rows = _answers(metric, BOUND).subquery()
    return select(rows.c.unit).where(rows.c.event == 1, rows.c.recurs).distinct()


@lru_cache(maxsize=64)
def _active(metric: Metric) -> Select[Any]:
    """The units that were active in a stretch, and the first event of each in its intervals."""
    rows = _answers(metric, BOUND).subquery()
    number = numbered(rows.c.received_us, BOUND).label("number")
    event_us = func.min(case((rows.c.event == 1, rows.c.received_us)))
    return (
        select(rows.c.unit, rows.c.recurs, rows.c.generation, number, rows.c.arm, event_us)
        .group_by(rows.c.unit, rows.c.recurs, rows.c.generation, number, rows.c.arm)
        .order_by(rows.c.unit)
    )


def _sums(stretch: Stretch) -> Select[Any]:
    """Requests and their device time in µs: at one price that is what they cost."""
    p = audit.prediction
    number = numbered(p.c.received_us, stretch)
    return (
        select(p.c.generation, number, p.c.arm, func.count(), func.sum(p.c.busy_ns // 1_000))
        .where(_ours(stretch))
        .group_by(p.c.generation, number, p.c.arm)
    )


def _energy(stretch: Stretch) -> Select[Any]:
    """Requests and the energy of the replicas that answered them; windows name no generation."""
    usage, supply = measured.usage_window, measured.supply_window
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
