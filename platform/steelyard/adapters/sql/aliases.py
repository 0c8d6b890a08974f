"""What we know of the registry's aliases, and the history of who moved them elsewhere."""

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Engine, RowMapping, func, select

from steelyard.adapters.sql.chained_rows import append_chained
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_into
from steelyard.adapters.sql.tables import delivery, models
from steelyard.domain.aliases import AliasDrift, Mirror

Key = tuple[str, str]
"""A model and one of its aliases."""


class AliasStore:
    """Mirrors and drifts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mark(self) -> tuple[int, int]:
        """Grows with every event and promotion: the same again means that none was added."""
        event, promotion = delivery.rollout_event.c.seq, delivery.promotion.c.seq
        query = select(
            select(func.coalesce(func.max(event), 0)).scalar_subquery(),
            select(func.coalesce(func.max(promotion), 0)).scalar_subquery(),
        )
        with reading(self._engine) as connection:
            events, promotions = connection.execute(query).one()
        return int(events), int(promotions)

    def mirrors(self) -> dict[Key, Mirror]:
        """What is known of every alias that was ever looked at."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(models.alias_mirror))
            return {(r.model, r.alias): Mirror(r.seen, r.intended) for r in rows}

    def mirror(self, key: Key, mirror: Mirror) -> None:
        """Remember what is known of an alias now."""
        model, alias = key
        values = asdict(mirror)
        with writing(self._engine) as connection:
            statement = insert_into(connection, models.alias_mirror)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["model", "alias"], set_=values),
                {"model": model, "alias": alias, **values},
            )

    def record(self, drift: AliasDrift) -> None:
        """Append to the history of drifts."""
        with writing(self._engine) as connection:
            append_chained(connection, models.alias_drift, asdict(drift))

    def newest(self) -> dict[Key, AliasDrift]:
        """The last row of every alias that ever drifted."""
        d = models.alias_drift
        newest = select(func.max(d.c.seq)).group_by(d.c.model, d.c.alias)
        query = select(d).where(d.c.seq.in_(newest)).order_by(d.c.model, d.c.alias)
        with reading(self._engine) as connection:
            found = _drifts(connection.execute(query).mappings())
        return {(one.model, one.alias): one for one in found}

    def history(self, model: str) -> list[AliasDrift]:
        """Everything that happened to a model's aliases elsewhere, oldest first."""
        d = models.alias_drift
        query = select(d).where(d.c.model == model).order_by(d.c.seq)
        with reading(self._engine) as connection:
            return _drifts(connection.execute(query).mappings())


def _drifts(rows: Iterable[RowMapping]) -> list[AliasDrift]:
    return [AliasDrift(**{k: row[k] for k in AliasDrift.__dataclass_fields__}) for row in rows]
