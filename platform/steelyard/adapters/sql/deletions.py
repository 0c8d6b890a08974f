"""Versions that were taken out of the registry, and what their predictions say against it."""

from dataclasses import asdict

from sqlalchemy import Engine, func, select

from steelyard.adapters.sql.chained_rows import append_chained
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.tables import audit, models
from steelyard.domain.deletion import Deletion


class DeletionStore:
    """Deletions in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, deletion: Deletion) -> None:
        """Append to the history of deletions; the same version's is recorded once."""
        d = models.version_deletion
        known = select(d.c.seq).where(
            d.c.model == deletion.model, d.c.version == deletion.version
        )  # fmt: skip
        with writing(self._engine) as connection:
            if connection.execute(known).first() is None:
                append_chained(connection, d, asdict(deletion))

    def deletions(self, model: str) -> list[Deletion]:
        """A model's deletions, oldest first."""
        d = models.version_deletion
        query = select(d).where(d.c.model == model).order_by(d.c.seq)
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [Deletion(**{k: row[k] for k in Deletion.__dataclass_fields__}) for row in rows]

    def last_asked_us(self, model: str, version: int) -> int | None:
        """When the newest prediction of a version came that is kept; None: there is none."""
        p = audit.prediction
        query = select(func.max(p.c.received_us)).where(p.c.model == model, p.c.version == version)
        with reading(self._engine) as connection:
            found = connection.execute(query).scalar()
        return None if found is None else int(found)
