"""API keys and their revocations. Rows are never changed; a secret is kept as its digest alone."""

import json
from dataclasses import asdict

from sqlalchemy import Engine, RowMapping, Select, insert, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.tables import serving
from steelyard.domain.api_key import ApiKey, KeyRecord


class ApiKeyStore:
    """API keys in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, key: ApiKey, actor: str) -> None:
        """Keep a new key."""
        row = asdict(key) | {"models": json.dumps(key.models), "created_by": actor}
        del row["revoked_us"]
        with writing(self._engine) as connection:
            connection.execute(insert(serving.api_key), row)

    def revoke(self, key_id: str, actor: str, reason: str, now_us: int) -> KeyRecord | None:
        """Revoke a key, once: a second time changes nothing. None when there is no such key."""
        query = _keys().where(serving.api_key.c.key_id == key_id)
        row = {"key_id": key_id, "revoked_us": now_us, "revoked_by": actor, "reason": reason}
        with writing(self._engine) as connection:
            found = connection.execute(query).mappings().one_or_none()
            if found is not None and found["revoked_us"] is None:
                connection.execute(insert(serving.api_key_revocation), row)
                found = connection.execute(query).mappings().one()
            return _record(found) if found is not None else None

    def records(self) -> list[KeyRecord]:
        """Every key that there ever was, oldest first."""
        query = _keys().order_by(serving.api_key.c.created_us, serving.api_key.c.key_id)
        with reading(self._engine) as connection:
            return [_record(row) for row in connection.execute(query).mappings()]


def _keys() -> Select[*tuple[object, ...]]:
    k, r = serving.api_key, serving.api_key_revocation
    columns = (*k.c, r.c.revoked_us, r.c.revoked_by, r.c.reason)
    return select(*columns).select_from(k.outerjoin(r, r.c.key_id == k.c.key_id))


def _record(row: RowMapping) -> KeyRecord:
    names = ApiKey.__dataclass_fields__
    key = ApiKey(
        **{name: row[name] for name in names} | {"models": tuple(json.loads(row["models"]))}
    )
    return KeyRecord(key, row["created_by"], row["revoked_by"], row["reason"])
