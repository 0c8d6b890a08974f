"""What versions were when they first served: kept, whatever becomes of them in the registry."""

import json

from sqlalchemy import Engine, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import models
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.version_tags import tags_of, version_of


class ServedVersionStore:
    """Versions that served, in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def keep(self, version: ModelVersion, now_us: int) -> None:
        """Keep a version as it is; repeating it changes nothing."""
        row = {
            "model": version.model, "version": version.version, "run_id": version.run_id,
            "source": version.source, "created_us": version.created_us,
            "tags": json.dumps(tags_of(version), sort_keys=True), "recorded_us": now_us,
        }  # fmt: skip
        with writing(self._engine) as connection:
            insert_new(connection, models.served_version, [row], ("model", "version"))

    def version(self, model: str, version: int) -> ModelVersion | None:
        """A version as it was when it first served; None: it never did."""
        s = models.served_version
        query = select(s).where(s.c.model == model, s.c.version == version)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return version_of(
            json.loads(row.tags), model=model, version=version, run_id=row.run_id,
            source=row.source, created_us=row.created_us,
        )  # fmt: skip
