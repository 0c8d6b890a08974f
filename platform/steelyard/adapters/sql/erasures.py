"""Erasing predictions whose time is over, by whole segments; that it was done stays on record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, exists, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_rows
from steelyard.adapters.sql.tables import audit
from steelyard.domain.charge import DAY_US
from steelyard.domain.hash_chain import GENESIS, link

_ERASED = exists().where(audit.prediction_erasure.c.segment == audit.prediction_segment.c.seq)


@dataclass(frozen=True, slots=True)
class Due:
    """A segment of predictions that have all been kept for longer than ``retention_days``."""

    segment: int
    model: str
    records: int
    first_us: int
    last_us: int
    retention_days: int


class ErasureStore:
    """Erasures in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self, days: Mapping[str, int], now_us: int, limit: int) -> list[Due]:
        """The oldest segments past their model's days; models without any are kept for ever."""
        s, found = audit.prediction_segment, list[Due]()
        with reading(self._engine) as connection:
            for model, kept in sorted(days.items()):
                if kept <= 0:
                    continue
                query = (
                    select(s.c.seq, s.c.model, s.c.records, s.c.first_us, s.c.last_us)
                    .where(s.c.model == model, s.c.last_us <= now_us - kept * DAY_US, ~_ERASED)
                    .order_by(s.c.last_us)
                    .limit(limit - len(found))
                )
                found += [Due(*row, kept) for row in connection.execute(query)]
        return found

    def erase(self, due: Sequence[Due], actor: str, now_us: int) -> list[Due]:
        """Mark segments as erased and delete their predictions and labels; those that it did.

        Somebody else may have been faster. The mark is what lets the triggers give way.
        """
        p, a, e = audit.prediction, audit.prediction_aside, audit.prediction_erasure
        with writing(self._engine) as connection:
            among = e.c.segment.in_([one.segment for one in due])
            taken = set(connection.execute(select(e.c.segment).where(among)).scalars())
            own = [one for one in due if one.segment not in taken]
            _mark(connection, own, actor, now_us)
            numbers = [one.segment for one in own]
            ids = select(p.c.prediction_id).where(p.c.segment.in_(numbers))
            connection.execute(delete(audit.label).where(audit.label.c.prediction_id.in_(ids)))
            connection.execute(delete(p).where(p.c.segment.in_(numbers)))
            connection.execute(delete(a).where(a.c.segment.in_(numbers)))
        return own


def _mark(connection: Connection, due: Sequence[Due], actor: str, now_us: int) -> None:
    e = audit.prediction_erasure
    query = select(e.c.seq, e.c.hash).order_by(e.c.seq.desc()).limit(1)
    last = connection.execute(query).one_or_none()
    seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
    rows = []
    for number, one in enumerate(due, start=seq + 1):
        row = {
            "seq": number, "segment": one.segment, "records": one.records,
            "retention_days": one.retention_days, "actor": actor, "erased_us": now_us,
        }  # fmt: skip
        rows.append({**row, "prev_hash": previous, "hash": link(previous, row)})
        previous = rows[-1]["hash"]
    insert_rows(connection, e, rows)
