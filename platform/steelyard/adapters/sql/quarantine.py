"""Reports that are not believed: kept aside for a person, counted as an alarm, never applied."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Table, select

from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import measured
from steelyard.domain.facts import Fact


def keep_aside_clashes(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], now_us: int
) -> int:
    """Windows whose key is taken by other content; how many of the rows they are."""
    windows = [row for row in rows if "content_sha256" in row]
    if not windows:
        return 0
    keys = [row["idem_key"] for row in windows]
    known = select(table.c.idem_key, table.c.content_sha256).where(table.c.idem_key.in_(keys))
    stored = {row.idem_key: row.content_sha256 for row in connection.execute(known)}
    clashes = [row for row in windows if stored.get(row["idem_key"]) != row["content_sha256"]]
    _keep(connection, [
        (row["idem_key"], stored.get(row["idem_key"], ""), row["content_sha256"], dict(row))
        for row in clashes
    ], now_us)  # fmt: skip
    return len(clashes)


def keep_aside_future(connection: Connection, facts: Iterable[Fact], now_us: int) -> None:
    """Facts that claim to come from the future; their numbers stay missing in completeness."""
    rows = []
    for fact in facts:
        payload = {"fact": type(fact).__name__, **asdict(fact)}
        content = sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        rows.append((getattr(fact, "idem_key", content), "", content, payload))
    _keep(connection, rows, now_us)


def _keep(
    connection: Connection, rows: Iterable[tuple[str, str, str, dict[str, Any]]], now_us: int
) -> None:
    conflicts = [
        {
            "conflict_id": sha256(f"{key}|{received}".encode()).hexdigest(), "idem_key": key,
            "stored_sha256": stored, "received_sha256": received,
            "payload": json.dumps(payload), "received_us": now_us,
        }
        for key, stored, received, payload in rows
    ]  # fmt: skip
    insert_new(connection, measured.usage_conflict, conflicts, ("conflict_id",))
