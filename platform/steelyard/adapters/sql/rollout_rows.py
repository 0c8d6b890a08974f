"""Rows of rollouts, read as what they are and changed by compare-and-set; each course's events."""

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from steelyard.adapters.sql.chained_rows import append_chained
from steelyard.adapters.sql.tables import delivery
from steelyard.domain.errors import Conflict
from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, plan_from
from steelyard.domain.rollout_record import Move, Stored

OPEN_PHASES = ("progressing", "paused")


def read_rollout(row: RowMapping) -> Stored:
    """A rollout with its row's version."""
    values = {name: row[name] for name in Rollout.__dataclass_fields__}
    return Stored(Rollout(**{**values, "plan": _plan(row["plan"])}), row["row_version"])


def read_open(connection: Connection, model: str) -> list[Stored]:
    """The rollouts of a model that still move or wait, by the version of their candidate."""
    r = delivery.rollout
    query = select(r).where(r.c.model == model, r.c.phase.in_(OPEN_PHASES)).order_by(r.c.candidate)
    return [read_rollout(row) for row in connection.execute(query).mappings()]


def add_rollout(connection: Connection, rollout: Rollout, change: Change) -> Stored:
    """A first row and its event."""
    connection.execute(insert(delivery.rollout), _row(rollout, 1))
    _event(connection, None, rollout, change, rollout.created_us)
    return Stored(rollout, 1)


def change_rollout(connection: Connection, move: Move, now_us: int) -> Stored:
    """The next row of a rollout, with an event if its course changed.

    Raises:
        Conflict: somebody else changed it meanwhile.
    """
    before, after = move.before, move.after
    version = before.row_version + 1
    r = delivery.rollout
    changed = connection.execute(
        update(r)
        .where(r.c.rollout_id == after.rollout_id, r.c.row_version == before.row_version)
        .values({**_row(after, version), "updated_us": now_us})
    )
    if changed.rowcount != 1:
        raise Conflict(f"Rollout {after.rollout_id} was changed meanwhile.", "Try again.")
    if _course(before.rollout) != _course(after):
        _event(connection, before.rollout, after, move.change, now_us)
    return Stored(after, version)


def _course(rollout: Rollout) -> tuple[object, ...]:
    """What makes an event when it changes; the last two only people change."""
    return (rollout.condition, rollout.step, rollout.weight_bp, rollout.first_step,
            rollout.stopped_us)  # fmt: skip


def _row(rollout: Rollout, row_version: int) -> dict[str, Any]:
    row = {
        c.name: getattr(rollout, c.name)
        for c in delivery.rollout.columns
        if hasattr(rollout, c.name)
    }
    plan = json.dumps(asdict(rollout.plan), sort_keys=True)
    return {**row, "plan": plan, "row_version": row_version, "updated_us": rollout.created_us}


def _event(
    connection: Connection, before: Rollout | None, after: Rollout, change: Change, now_us: int
) -> None:
    append_chained(connection, delivery.rollout_event, {
        "rollout_id": after.rollout_id, "at_us": now_us, "actor": change.actor,
        "verb": change.verb, "from_condition": before.condition if before else "",
        "to_condition": after.condition, "step": after.step, "weight_bp": after.weight_bp,
        "generation": after.generation, "reason": after.reason, "evidence": change.evidence,
    })  # fmt: skip


@lru_cache(maxsize=1024)
def _plan(text: str) -> Plan:
    """A plan never changes, and every turn reads those of all open rollouts."""
    return plan_from(json.loads(text))
