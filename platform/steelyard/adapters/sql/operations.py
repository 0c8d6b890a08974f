"""Shadows and drains. Rows are never changed: the newest of a model or of a version counts."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, Table, and_, case, func, insert, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.tables import audit, measured, serving
from steelyard.domain.operation import Drain, ShadowSetting


class OperationStore:
    """What operators asked for, in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set_shadow(self, setting: ShadowSetting) -> None:
        """Set a model's shadow, or that it has none."""
        self._append(serving.shadow_setting, asdict(setting))

    def shadows(self) -> dict[str, ShadowSetting]:
        """Model -> its shadow, for the models that have one."""
        s = serving.shadow_setting
        newest = select(func.max(s.c.seq)).group_by(s.c.model)
        query = select(s).where(s.c.seq.in_(newest), s.c.version.is_not(None)).order_by(s.c.model)
        with reading(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return {row["model"]: ShadowSetting(**_without(row, "seq")) for row in rows}

    def drain(self, drain: Drain) -> None:
        """Take a version out of service."""
        self._append(serving.version_drain, asdict(drain))

    def drained(self) -> dict[str, dict[int, int]]:
        """Model -> version -> when it was last taken out of service, in microseconds."""
        d = serving.version_drain
        query = select(d.c.model, d.c.version, func.max(d.c.drained_us)).group_by(
            d.c.model, d.c.version
        )
        found: dict[str, dict[int, int]] = {}
        with reading(self._engine) as connection:
            for model, version, at_us in connection.execute(query):
                found.setdefault(model, {})[int(version)] = int(at_us)
        return found

    def asked(
        self, model: str, versions: Collection[int], since_us: int
    ) -> dict[int, tuple[int, int]]:
        """Version -> requests and server errors in the metered windows that began since then."""
        u = measured.usage_window
        query = (
            select(u.c.version, func.sum(u.c.requests), func.sum(u.c.errors))
            .where(
                u.c.model == model, u.c.version.in_(versions), u.c.window_start_us >= since_us,
                u.c.phase == "inference", u.c.activity == "serve",
            )
            .group_by(u.c.version)
        )  # fmt: skip
        with reading(self._engine) as connection:
            return {int(v): (int(n), int(x)) for v, n, x in connection.execute(query)}

    def agreement(self, model: str, version: int, since_us: int) -> tuple[int, int]:
        """Of what a shadow repeated since then: how often classes can be compared, and differ."""
        copy, live = audit.prediction.alias("copy"), audit.prediction.alias("live")
        differs = case((copy.c.classes != live.c.classes, 1), else_=0)
        query = (
            select(func.count(), func.sum(differs))
            .select_from(copy.join(live, live.c.prediction_id == copy.c.shadows))
            .where(
                copy.c.model == model, copy.c.version == version, copy.c.arm == "shadow",
                copy.c.received_us >= since_us, copy.c.shadows.is_not(None),
                and_(copy.c.classes.is_not(None), live.c.classes.is_not(None)),
            )
        )  # fmt: skip
        with reading(self._engine) as connection:
            compared, different = connection.execute(query).one()
        return int(compared), int(different or 0)

    def _append(self, table: Table, row: dict[str, Any]) -> None:
        with writing(self._engine) as connection:
            last = connection.scalar(select(func.coalesce(func.max(table.c.seq), 0)))
            connection.execute(insert(table), row | {"seq": (last or 0) + 1})


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
