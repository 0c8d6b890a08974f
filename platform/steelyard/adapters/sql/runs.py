"""What single runs were charged, whoever carries it now."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine, case, func, or_, select

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.ledger import TO_FAILED, TO_VERSION
from steelyard.domain.measures import Amount
from steelyard.domain.model_card import Machine

MOVES = (TO_VERSION, TO_FAILED)
"""Methods that move what a run cost to somebody else: a move is not a charge."""


@dataclass(frozen=True, slots=True)
class Charged:
    """Sums by role, unit and tier, and when the newest charge was recorded."""

    amounts: tuple[Amount, ...]
    recorded_us: int


class RunStore:
    """Charges by run. Every method is one consistent read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def charged(self, model: str, run_id: str) -> Charged | None:
        """What a run of a model was charged, corrections included; None when nothing was posted.

        Entries on the run's accounts, without those that hand its cost on.
        """
        a, e, b, moved = ledger.account, ledger.entry, ledger.batch, ledger.batch.alias("moved")
        amount = func.sum(case((e.c.debit_account == a.c.account_id, 1), else_=-1) * e.c.amount)
        # The mirror image of a move is a move as well; its subject is the batch that it mirrors.
        query = (
            select(a.c.phase, a.c.role, a.c.unit, func.coalesce(e.c.tier, "").label("tier"),
                   amount.label("amount"), func.max(e.c.recorded_us).label("recorded_us"))
            .select_from(a)
            .join(e, or_(e.c.debit_account == a.c.account_id, e.c.credit_account == a.c.account_id))
            .join(b, b.c.batch_id == e.c.batch_id)
            .outerjoin(moved, moved.c.batch_id == b.c.subject)
            .where(
                a.c.model == model, a.c.run_id == run_id, b.c.method_id.not_in(MOVES),
                or_(moved.c.method_id.is_(None), moved.c.method_id.not_in(MOVES)),
            )
            .group_by(a.c.phase, a.c.role, a.c.unit, "tier")
        )  # fmt: skip
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        if not rows:
            return None
        amounts = tuple(
            Amount(model, None, row.phase, row.role, row.unit, row.tier, int(row.amount))
            for row in rows
        )
        return Charged(amounts, max(row.recorded_us for row in rows))

    def machines(self, model: str, run_ids: Collection[str]) -> list[Machine]:
        """The devices that training runs of a model were given: how many together, and where."""
        r, o = measured.resource.c, measured.resource_owner.c
        query = (
            select(r.device_count, r.device_model, r.region)
            .distinct()
            .join(measured.resource_owner, o.resource_id == r.resource_id)
            .where(o.model == model, o.phase == "training", o.run_id.in_(run_ids))
        )
        with reading(self._engine) as connection:
            found = [Machine(*row) for row in connection.execute(query)]
        return sorted(found, key=lambda m: (-m.devices, m.device_model, m.region or ""))

    def charged_since(self, seq: int) -> list[tuple[str, str]]:
        """Model and run of every run that was charged by an entry after the one of a number."""
        a, e = ledger.account, ledger.entry
        query = (
            select(a.c.model, a.c.run_id)
            .distinct()
            .select_from(e)
            .join(a, a.c.account_id == e.c.debit_account)
            .where(e.c.seq > seq, a.c.run_id.is_not(None))
            .order_by(a.c.model, a.c.run_id)
        )
        with reading(self._engine) as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]
