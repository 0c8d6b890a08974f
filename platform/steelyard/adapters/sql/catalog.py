"""Prices, coefficients and known versions: what the ledger needs besides the windows."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from importlib.resources import files
from typing import Any

from sqlalchemy import Engine, and_, or_, select

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.domain.cost import Price
from steelyard.domain.hash_chain import digest
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.posting import Coefficient


class CatalogStore:
    """Append-only rows with two clocks: from when they hold, and since when we know them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load_shipped(self, now_us: int) -> None:
        """Insert the price and coefficient tables that ship with Steelyard, once."""
        with writing(self._engine) as connection:
            for name, table, key in (
                ("prices.csv", t.price, "price_id"),
                ("coefficients.csv", t.coefficient, "coef_id"),
            ):
                rows = [_shipped(row, key, now_us) for row in _csv(name)]
                insert_new(connection, table, rows, (key,))

    def prices(self) -> list[Price]:
        """The whole price book."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(t.price)).mappings().all()
        return [Price(**row) for row in rows]

    def coefficient(self, kind: str, key: str, at_us: int) -> Coefficient | None:
        """The coefficient in force at a moment; None when nobody declared one."""
        c = t.coefficient
        query = (
            select(c.c.coef_id, c.c.value)
            .where(c.c.kind == kind, c.c.key == key, c.c.valid_from_us <= at_us)
            .order_by(c.c.valid_from_us.desc(), c.c.recorded_us.desc())
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return Coefficient(row.coef_id, Fraction(row.value)) if row else None

    def cited(self, coef_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The full rows of coefficients, for a report's footnotes."""
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(t.coefficient).where(t.coefficient.c.coef_id.in_(coef_ids))
            )
            return [dict(row) for row in rows.mappings()]

    def record_version(self, version: ModelVersion) -> None:
        """Copy what reports need of a registered version; repeating it changes nothing."""
        row = {c.name: asdict(version).get(c.name) for c in t.model_version.columns}
        row["flops_forward"] = version.flops.forward if version.flops else None
        with writing(self._engine) as connection:
            insert_new(connection, t.model_version, [row], ("model", "version"))

    def versions(self, model: str | None = None) -> list[dict[str, Any]]:
        """Known versions, oldest first."""
        query = select(t.model_version).order_by(t.model_version.c.model, t.model_version.c.version)
        if model is not None:
            query = query.where(t.model_version.c.model == model)
        with reading(self._engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def attempts(self, model: str) -> list[dict[str, Any]]:
        """Every run attempt of a model, with its outcome."""
        a = t.run_attempt
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(a).where(a.c.model == model).order_by(a.c.started_us, a.c.attempt)
            )
            return [dict(row) for row in rows.mappings()]

    def unattributed_runs(self) -> list[tuple[str, str, int]]:
        """Runs with an account of their own that have a version now: (run, model, version)."""
        a, v = t.account, t.model_version
        query = (
            select(v.c.run_id, v.c.model, v.c.version)
            .distinct()
            .join(
                a, and_(a.c.run_id == v.c.run_id, or_(a.c.role == "consumer", a.c.role == "idle"))
            )
        )
        with reading(self._engine) as connection:
            return [(row.run_id, row.model, row.version) for row in connection.execute(query)]


def _csv(name: str) -> list[dict[str, str]]:
    text = (files("steelyard.adapters") / "coefficient_tables" / name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _shipped(row: dict[str, str], key: str, now_us: int) -> dict[str, Any]:
    integers = {"price_nano", "year", "valid_from_us"}
    values: dict[str, Any] = {
        name: (None if text == "" else int(text) if name in integers else text)
        for name, text in row.items()
    }
    return {key: digest(values)[:16], **values, "recorded_us": now_us}
