"""What of the books an outside witness is told, and what its word is held against."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Engine, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.insert import chunks
from steelyard.adapters.sql.tables import ledger


class AnchorStore:
    """Noted heads, closed periods and hashes in SQL. Every method is one consistent read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def heads(self) -> dict[str, tuple[int, str]]:
        """Day -> the entry that was noted as the newest of that day: its number and hash."""
        h = ledger.chain_head.c
        with reading(self._engine) as connection:
            rows = connection.execute(select(h.day, h.seq, h.hash).order_by(h.day))
            return {row.day: (row.seq, row.hash) for row in rows}

    def closed(self) -> list[dict[str, Any]]:
        """The rows of closed periods as they are stored, ``totals`` as its text."""
        p = ledger.period
        with reading(self._engine) as connection:
            rows = connection.execute(select(p).where(p.c.status == "closed"))
            return [dict(row) for row in rows.mappings()]

    def hashes(self, seqs: Collection[int]) -> dict[int, str]:
        """The stored hashes of these entries; an entry that is not there is left out."""
        e, wanted = ledger.entry.c, sorted(seqs)
        found: dict[int, str] = {}
        with reading(self._engine) as connection:
            for chunk in chunks(wanted):
                rows = connection.execute(select(e.seq, e.hash).where(e.seq.in_(chunk)))
                found |= {row.seq: row.hash for row in rows}
        return found
