"""Periods of the books: calendar months that are open, closing, and closed for ever."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import ledger
from steelyard.domain.ledger import period_of


@dataclass(frozen=True, slots=True)
class Period:
    """A month of the books. ``totals`` are its sums of entries by unit when it closed."""

    period_id: str
    start_us: int
    end_us: int
    status: str
    closed_us: int | None
    closed_by: str | None
    closing_seq: int | None
    totals: dict[str, int] | None


class PeriodStore:
    """Periods in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[Period]:
        """Every period that an entry was booked in, oldest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(ledger.period).order_by(ledger.period.c.start_us)
            ).mappings()
            return [_period(row) for row in rows]

    def begin_closing(self, period_id: str) -> None:
        """From open to closing; later states stay."""
        with writing(self._engine) as connection:
            connection.execute(
                update(ledger.period)
                .where(ledger.period.c.period_id == period_id, ledger.period.c.status == "open")
                .values(status="closing")
            )

    def close(self, period_id: str, now_us: int, actor: str) -> Period:
        """Close for ever, with the totals and the newest entry at that moment."""
        e = ledger.entry
        with writing(self._engine) as connection:
            sums = select(e.c.unit, func.sum(e.c.amount)).where(e.c.period_id == period_id)
            totals = {row[0]: int(row[1]) for row in connection.execute(sums.group_by(e.c.unit))}
            connection.execute(
                update(ledger.period)
                .where(ledger.period.c.period_id == period_id, ledger.period.c.status == "closing")
                .values(
                    status="closed", closed_us=now_us, closed_by=actor,
                    closing_seq=connection.execute(select(func.max(e.c.seq))).scalar() or 0,
                    totals=json.dumps(totals, sort_keys=True),
                )
            )  # fmt: skip
            row = connection.execute(
                select(ledger.period).where(ledger.period.c.period_id == period_id)
            ).mappings()
            return _period(row.one())


def booking(connection: Connection, charge_start_us: int, now_us: int) -> tuple[str, int, bool]:
    """Where a charge is booked: the period, its end, and whether that is a later one.

    A charge belongs to its own month while that is not closed, else to the present one, as a
    correction.
    """
    own = period_of(charge_start_us)
    if _status(connection, own) != "closed":
        return own[0], own[2], False
    present = period_of(now_us)
    _status(connection, present)
    return present[0], present[2], True


def _status(connection: Connection, period: tuple[str, int, int]) -> str:
    period_id, start, end = period
    row = {"period_id": period_id, "start_us": start, "end_us": end, "status": "open"}
    insert_new(connection, ledger.period, [row], ("period_id",))
    status = select(ledger.period.c.status).where(ledger.period.c.period_id == period_id)
    return str(connection.execute(status).scalar_one())


def _period(row: Any) -> Period:
    values = {name: row[name] for name in Period.__dataclass_fields__}
    return Period(**{**values, "totals": json.loads(row["totals"]) if row["totals"] else None})
