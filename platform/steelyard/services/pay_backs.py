"""When a variant has saved what making it took: in money, in energy, in operational carbon.

Making is everything that is booked to the variant's training: compressing, fine-tuning, the
teacher's labels, controls and evaluation. Saving is direct use on days on which both served.
"""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

from steelyard.services.economics import PayBackOutlook, daily_rate, pay_back_outlook

if TYPE_CHECKING:
    from steelyard.services.model_account import Account, Recent

PAID_IN = ("cost_nano", "energy_mj", "carbon_ug")
"""Measures that a variant pays back in."""


def pay_backs(
    number: int | None, parent: int | None, whole: "Account", recent: "Recent", present: date
) -> Mapping[str, PayBackOutlook]:
    """The pay-back of a variant by measure; empty for a version without a parent."""
    if number is None or parent is None:
        return {}
    mine, theirs = whole.of(number), whole.of(parent)
    asked, served = mine.traffic, theirs.traffic.requests
    rate = daily_rate(recent.by_day(number), mine.began(), present, asked.requests_per_day)
    return {
        measure: pay_back_outlook(
            getattr(mine.sides.training, measure),
            (getattr(theirs.sides.serving, measure), served),
            (getattr(mine.sides.serving, measure), asked.requests),
            (recent.days(parent, "usage", measure), recent.days(number, "usage", measure)),
            rate, present,
        )
        for measure in PAID_IN
    }  # fmt: skip
