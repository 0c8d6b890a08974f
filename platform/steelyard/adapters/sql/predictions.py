"""The store of predictions and their labels: look-up by id, and intervals of evidence."""

from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, func, or_, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.prediction_checking import Checked, check
from steelyard.adapters.sql.tables import audit
from steelyard.domain.audit import BLAMELESS


class PredictionStore:
    """Predictions in SQL; they arrive through the spool."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prediction(self, prediction_id: str) -> dict[str, Any] | None:
        """The stored record with its label, if one came; None when there is no such prediction.

        ``repeats`` is how many more answers there are under its id: the edge tries a request again
        whose answer did not come through.
        """
        p, label, aside = audit.prediction, audit.label, audit.prediction_aside
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
        s = audit.prediction_segment.c
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        with reading(self._engine) as connection:
            query = select(s.hash).where(s.seq == int(number))
            return connection.execute(query).scalar_one_or_none()

    def counts(self, model: str, since_us: int = 0) -> list[dict[str, Any]]:
        """Requests, errors, labelled and wrong answers per version; copies to a shadow are none."""
        p, label = audit.prediction, audit.label
        query = (
            select(
                p.c.version,
                func.count().label("requests"),
                func.sum(case((is_error(p.c.status), 1), else_=0)).label("errors"),
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
        p = audit.prediction
        query = (
            select(p.c.prediction_id)
            .where(p.c.model == model)
            .order_by(p.c.received_us.desc())
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())


def executed() -> ColumnElement[bool]:
    """An answer that was computed; early records do not say that they are not from a cache."""
    cached = audit.prediction.c.cached
    return or_(cached.is_(None), cached == 0)


def is_error(status: ColumnElement[int]) -> ColumnElement[bool]:
    """An error that counts against the version."""
    return and_(status >= 500, status.not_in(BLAMELESS))
