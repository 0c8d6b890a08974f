"""A budget as somebody set it, or withdrew it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """A limit of one calendar period, and who set it.

    ``measure`` names the unit of ``amount``: ``cost_nano``, ``energy_mj``, ``carbon_ug``,
    ``embodied_ug`` or ``device_us``. ``horizon`` is month, quarter or year. ``warn_bp`` is the
    part from which spending is worth a word, in basis points. A ``withdrawal`` repeats the limit
    that counts no more.
    """

    scope_kind: str
    scope: str
    measure: str
    horizon: str
    amount: int
    warn_bp: int
    created_by: str
    recorded_us: int
    kind: Literal["limit", "withdrawal"] = "limit"
