"""Which models' compressed variants roll out by themselves. The newest row of a model counts."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, RowMapping, func, insert, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.tables import delivery
from steelyard.domain.auto_rollout import AutoRollout
from steelyard.domain.rollout_plan import plan_from


class AutoRolloutStore:
    """Settings of automatic rollouts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set(self, setting: AutoRollout) -> None:
        """Set what a model's variants do from now on."""
        a = delivery.auto_rollout
        plan = None if setting.plan is None else json.dumps(asdict(setting.plan), sort_keys=True)
        with writing(self._engine) as connection:
            last = connection.scalar(select(func.coalesce(func.max(a.c.seq), 0)))
            row: Mapping[str, Any] = asdict(setting) | {"plan": plan, "seq": (last or 0) + 1}
            connection.execute(insert(a), dict(row))

    def current(self) -> dict[str, AutoRollout]:
        """Model -> what is set, for the models for which anything ever was."""
        a = delivery.auto_rollout
        newest = select(func.max(a.c.seq)).group_by(a.c.model)
        query = select(a).where(a.c.seq.in_(newest)).order_by(a.c.model)
        with reading(self._engine) as connection:
            return {row["model"]: _setting(row) for row in connection.execute(query).mappings()}

    def history(self, model: str) -> list[AutoRollout]:
        """Everything that was ever set for a model, oldest first."""
        a = delivery.auto_rollout
        query = select(a).where(a.c.model == model).order_by(a.c.seq)
        with reading(self._engine) as connection:
            return [_setting(row) for row in connection.execute(query).mappings()]

    def tried(self, model: str) -> frozenset[int]:
        """The candidates of all rollouts of a model, whoever began them and however they ended."""
        r = delivery.rollout
        query = select(r.c.candidate).where(r.c.model == model).distinct()
        with reading(self._engine) as connection:
            return frozenset(connection.execute(query).scalars())


def _setting(row: RowMapping) -> AutoRollout:
    values = {k: row[k] for k in AutoRollout.__dataclass_fields__}
    return AutoRollout(**{**values, "plan": row["plan"] and plan_from(json.loads(row["plan"]))})
