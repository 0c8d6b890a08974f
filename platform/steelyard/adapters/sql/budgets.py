"""Budgets and the owners of models. Rows are never changed: the newest recorded one counts."""

from dataclasses import asdict

from sqlalchemy import Engine, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import rates
from steelyard.domain.budget_record import BudgetRecord
from steelyard.domain.hash_chain import digest
from steelyard.domain.ownership import Ownership


class BudgetStore:
    """Budgets and owners in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, budget: BudgetRecord) -> None:
        """Record a limit or a withdrawal; an earlier record of the same kind counts no more."""
        row = asdict(budget)
        with writing(self._engine) as connection:
            key = {"budget_id": digest(row)[:32]}
            insert_new(connection, rates.budget, [row | key], ("budget_id",))

    def budgets(self) -> list[BudgetRecord]:
        """The budgets that count, by scope: the newest record of each, unless it withdraws."""
        b = rates.budget
        names = BudgetRecord.__dataclass_fields__
        with reading(self._engine) as connection:
            rows = connection.execute(select(b).order_by(b.c.recorded_us, b.c.budget_id)).mappings()
            every = [BudgetRecord(**{name: row[name] for name in names}) for row in rows]
        newest = {(b.scope_kind, b.scope, b.measure, b.horizon): b for b in every}
        return [newest[key] for key in sorted(newest) if newest[key].kind == "limit"]

    def own(self, ownership: Ownership) -> None:
        """Record who owns a model from a moment on."""
        keys = ("model", "valid_from_us", "recorded_us")
        with writing(self._engine) as connection:
            insert_new(connection, rates.ownership, [asdict(ownership)], keys)

    def ownership(self) -> list[Ownership]:
        """Every record of who owns what, in the order in which they count."""
        o = rates.ownership
        query = select(o).order_by(o.c.model, o.c.valid_from_us, o.c.recorded_us)
        with reading(self._engine) as connection:
            return [Ownership(**row) for row in connection.execute(query).mappings()]
