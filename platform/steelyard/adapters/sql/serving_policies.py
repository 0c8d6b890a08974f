"""Serving policies of models. Rows are never changed: the newest of a model counts."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection, Engine, RowMapping, func, insert, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.tables import serving
from steelyard.domain.serving_policy import PolicyChange, ServingPolicy, changed


class ServingPolicyStore:
    """Serving policies in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def change(
        self, model: str, values: Mapping[str, object], actor: str, reason: str, now_us: int
    ) -> PolicyChange:
        """Set some fields of a model's policy, on top of what anybody set before.

        Raises:
            InvalidInput: a name or a value is not one of a policy's; nothing was changed.
        """
        p = serving.serving_policy
        with writing(self._engine) as connection:
            before = _history(connection, model)
            policy = changed(before[-1].policy if before else ServingPolicy(), values)
            change = PolicyChange(model, policy, actor, reason, now_us)
            last = connection.scalar(select(func.coalesce(func.max(p.c.seq), 0)))
            row = asdict(change) | {"policy": json.dumps(asdict(policy), sort_keys=True)}
            connection.execute(insert(p), row | {"seq": (last or 0) + 1})
        return change

    def history(self, model: str) -> list[PolicyChange]:
        """Every policy that was ever set for a model, oldest first."""
        with reading(self._engine) as connection:
            return _history(connection, model)

    def current(self) -> dict[str, ServingPolicy]:
        """Model -> its policy, for the models for which somebody set one."""
        p = serving.serving_policy
        newest = select(func.max(p.c.seq)).group_by(p.c.model)
        query = select(p).where(p.c.seq.in_(newest)).order_by(p.c.model)
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings()
            return {row["model"]: _change(row).policy for row in rows}


def _history(connection: Connection, model: str) -> list[PolicyChange]:
    p = serving.serving_policy
    query = select(p).where(p.c.model == model).order_by(p.c.seq)
    return [_change(row) for row in connection.execute(query).mappings()]


def _change(row: RowMapping) -> PolicyChange:
    policy = ServingPolicy(**json.loads(row["policy"]))
    return PolicyChange(row["model"], policy, row["actor"], row["reason"], row["set_us"])
