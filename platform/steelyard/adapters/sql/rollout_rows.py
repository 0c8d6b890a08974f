"""Rows of rollouts, read as what they are."""

import json
from functools import lru_cache

from sqlalchemy import RowMapping

from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Plan, plan_from
from steelyard.domain.rollout_record import Stored


def read_rollout(row: RowMapping) -> Stored:
    """A rollout with its row's version."""
    values = {name: row[name] for name in Rollout.__dataclass_fields__}
    return Stored(Rollout(**{**values, "plan": _plan(row["plan"])}), row["row_version"])


@lru_cache(maxsize=1024)
def _plan(text: str) -> Plan:
    """A plan never changes, and every turn reads those of all open rollouts."""
    return plan_from(json.loads(text))
