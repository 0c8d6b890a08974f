"""The store of predictions and their labels: look-up by id, and intervals of evidence."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, func, select

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.prediction_checking import Checked, check
from steelyard.domain.audit import BLAMELESS
from steelyard.domain.e_process import Interval


class PredictionStore:
    """Predictions in SQL; they arrive through the spool."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prediction(self, prediction_id: str) -> dict[str, Any] | None:
        """The stored record with its label, if one came; None when there is no such prediction.

        ``repeats`` is how many more answers there are under its id: the edge tries a request again
        whose answer did not come through.
        """
        p, label, aside = t.prediction, t.label, t.prediction_aside
        repeats = select(func.count()).where(aside.c.prediction_id == prediction_id)
        query = (
            select(p, label.c.classes.label("label_classes"),
                   repeats.scalar_subquery().label("repeats"))
            .outerjoin(label, label.c.prediction_id == p.c.prediction_id)
            .where(p.c.prediction_id == prediction_id)
        )  # fmt: skip
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row else None

    def check(self, segment: int | None = None, most: int = 10) -> Checked:
        """Recompute every segment, or one, from its rows; at most so many faults are told."""
        return check(self._engine, most, segment)

    def hash_of_segment(self, number: str) -> str | None:
        """The hash of a segment in the chain of all; None without such a segment."""
        s = t.prediction_segment.c
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        with reading(self._engine) as connection:
            query = select(s.hash).where(s.seq == int(number))
            return connection.execute(query).scalar_one_or_none()

    def add_labels(
        self, labels: Mapping[str, Sequence[int]], source: str, now_us: int
    ) -> tuple[int, int]:
        """Store the true classes of predictions; (new, known already). The first one stays."""
        rows = [
            {"prediction_id": key, "classes": json.dumps(list(classes)), "source": source,
             "recorded_us": now_us}
            for key, classes in labels.items()
        ]  # fmt: skip
        with writing(self._engine) as connection:
            new = len(insert_new(connection, t.label, rows, ("prediction_id",)))
        return new, len(rows) - new

    def error_intervals(
        self, model: str, lineage: str, origin_us: int, interval_us: int, start: int, end: int
    ) -> dict[tuple[int, int], Interval]:
        """Requests and server errors by (generation, interval start) within [start, end)."""
        event = case((_is_error(t.prediction.c.status), 1), else_=0)
        return self._intervals(model, lineage, origin_us, interval_us, start, end, event, False)

    def label_intervals(
        self, model: str, lineage: str, origin_us: int, interval_us: int, start: int, end: int
    ) -> dict[tuple[int, int], Interval]:
        """Labelled requests and wrong ones; an interval is that of the prediction."""
        event = case((t.prediction.c.classes == t.label.c.classes, 0), else_=1)
        return self._intervals(model, lineage, origin_us, interval_us, start, end, event, True)

    def _intervals(
        self, model: str, lineage: str, origin_us: int, interval_us: int, start: int, end: int,
        event: Any, labelled: bool,
    ) -> dict[tuple[int, int], Interval]:  # fmt: skip
        p = t.prediction
        index = ((p.c.received_us - origin_us) // interval_us).label("number")
        source = p.join(t.label, t.label.c.prediction_id == p.c.prediction_id) if labelled else p
        query = (
            select(p.c.generation, index, p.c.arm, func.count(), func.sum(event))
            .select_from(source)
            .where(
                p.c.model == model,
                p.c.lineage == lineage,
                p.c.arm.in_(("stable", "canary")),
                p.c.received_us >= start,
                p.c.received_us < end,
            )
            .group_by(p.c.generation, index, p.c.arm)
        )
        counts: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
        with reading(self._engine) as connection:
            for generation, number, arm, n, x in connection.execute(query):
                key = (generation, origin_us + int(number) * interval_us)
                counts.setdefault(key, {})[arm] = (int(n), int(x))
        return {
            key: Interval(*arms.get("canary", (0, 0)), *arms.get("stable", (0, 0)))
            for key, arms in counts.items()
        }

    def canary_requests(self, model: str, lineage: str, generation: int) -> int:
        """Executed canary requests under one weight table."""
        p = t.prediction
        query = select(func.count()).where(
            p.c.model == model, p.c.lineage == lineage, p.c.generation == generation,
            p.c.arm == "canary",
        )  # fmt: skip
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def counts(self, model: str, since_us: int = 0) -> list[dict[str, Any]]:
        """Requests, errors, labelled and wrong answers per version; copies to a shadow are none."""
        p, label = t.prediction, t.label
        query = (
            select(
                p.c.version,
                func.count().label("requests"),
                func.sum(case((_is_error(p.c.status), 1), else_=0)).label("errors"),
                func.count(label.c.prediction_id).label("labelled"),
                func.sum(
                    case((and_(label.c.classes.is_not(None), label.c.classes != p.c.classes), 1),
                         else_=0)
                ).label("wrong"),
                func.max(p.c.received_us).label("last_us"),
            )
            .outerjoin(label, label.c.prediction_id == p.c.prediction_id)
            .where(p.c.model == model, p.c.received_us >= since_us, p.c.arm != "shadow")
            .group_by(p.c.version)
            .order_by(p.c.version)
        )  # fmt: skip
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        integers = ("requests", "errors", "labelled", "wrong")
        return [{**row, **{k: int(row[k] or 0) for k in integers}} for row in rows]

    def newest(self, model: str, limit: int = 1) -> list[str]:
        """Ids of the newest predictions."""
        p = t.prediction
        query = (
            select(p.c.prediction_id)
            .where(p.c.model == model)
            .order_by(p.c.received_us.desc())
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())


def _is_error(status: ColumnElement[int]) -> ColumnElement[bool]:
    """An error that counts against the version."""
    return and_(status >= 500, status.not_in(BLAMELESS))
