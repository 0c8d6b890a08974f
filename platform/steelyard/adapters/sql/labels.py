"""The store of labels; the first one of a prediction stays."""

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import Engine, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import audit
from steelyard.domain.labels import Label

CHUNK = 500


class LabelStore:
    """Labels in SQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self, labels: Iterable[tuple[str, Sequence[int]]], source: str, now_us: int
    ) -> tuple[int, int]:
        """Store true classes by prediction id; (new, known already)."""
        rows = [
            {"prediction_id": prediction_id, "classes": json.dumps(list(classes)),
             "source": source, "recorded_us": now_us}
            for prediction_id, classes in labels
        ]  # fmt: skip
        with writing(self._engine) as connection:
            new = len(insert_new(connection, audit.label, rows, ("prediction_id",)))
        return new, len(rows) - new

    def of_units(self, model: str, labels: Sequence[Label]) -> list[tuple[str, tuple[int, ...]]]:
        """What labels of units say of each of their predictions with as many rows."""
        p = audit.prediction
        by_unit = {label.unit_sha256: label.classes for label in labels if label.unit is not None}
        units = list(by_unit)
        found: list[tuple[str, tuple[int, ...]]] = []
        with reading(self._engine) as connection:
            for start in range(0, len(units), CHUNK):
                query = select(p).where(
                    p.c.model == model, p.c.unit_sha256.in_(units[start : start + CHUNK])
                )
                for row in connection.execute(query):
                    classes = by_unit[row.unit_sha256]
                    if len(classes) == row.items:
                        found.append((row.prediction_id, classes))
        return found
