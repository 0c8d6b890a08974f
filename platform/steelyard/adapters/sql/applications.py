"""How the applications of versions are, as the controller saw them last."""

from typing import Any

from sqlalchemy import Engine, and_, insert, select, update

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.tables import serving


class ApplicationStore:
    """States of applications in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def publish(self, model: str, version: int, phase: str, reason: str, now_us: int) -> None:
        """Publish how a version's application is; ``gone`` removes it from the list."""
        a = serving.application
        key = and_(a.c.model == model, a.c.version == version)
        with writing(self._engine) as connection:
            if phase == "gone":
                connection.execute(a.delete().where(key))
                return
            values = {"phase": phase, "reason": reason, "updated_us": now_us}
            if connection.execute(update(a).where(key).values(**values)).rowcount == 0:
                connection.execute(insert(a), {"model": model, "version": version, **values})

    def published(self) -> list[dict[str, Any]]:
        """How every application is, as the controller saw it last."""
        a = serving.application
        with reading(self._engine) as connection:
            rows = connection.execute(select(a).order_by(a.c.model, a.c.version))
            return [dict(row) for row in rows.mappings()]
