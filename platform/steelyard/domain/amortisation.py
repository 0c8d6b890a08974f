"""Moving cost from where it arose to those it served: idle time to users, a teacher to students.

Both are views on top of direct cost, posted as reversible batches of their own; the sum moved
never exceeds what there is.
"""

from collections.abc import Mapping

from steelyard.domain.allocation import largest_remainder
from steelyard.domain.errors import InvalidInput, Refused


def share_idle(direct: Mapping[str, int], idle: int) -> dict[str, int]:
    """Each user's direct cost plus its part of the idle cost, in proportion to direct cost.

    As OpenCost shares idle (specification v0.1): direct plus idle, to the last unit. With no
    direct cost there is nobody to share with, and the idle cost stays idle.

    >>> share_idle({"a": 600, "b": 300}, 2700 - 900)
    {'a': 1800, 'b': 900}

    Raises:
        InvalidInput: a negative amount.
    """
    if idle < 0 or any(amount < 0 for amount in direct.values()):
        raise InvalidInput(f"Costs are not negative, found {dict(direct)} and idle {idle}.")
    if not any(direct.values()):
        return dict(direct)
    parts = largest_remainder(idle, direct)
    return {user: amount + parts[user] for user, amount in direct.items()}


def amortise(
    balance: int, tokens: Mapping[str, int], amount: int | None = None, moved: int = 0
) -> dict[str, int]:
    """What each student takes over of its teacher's cost, in proportion to labelled tokens.

    ``balance`` is what the teacher cost in one ledger unit, ``moved`` what students took before;
    ``amount`` is to be moved now, by default all that is left.

    >>> amortise(7, {"s1": 2, "s2": 1})
    {'s1': 5, 's2': 2}

    Raises:
        InvalidInput: negative figures, or no student used the teacher.
        Refused: more would be moved than the teacher cost.
    """
    if min(balance, moved, amount or 0, *tokens.values()) < 0:
        raise InvalidInput(
            f"Amounts and tokens are not negative, found a balance of {balance}, {moved} moved, "
            f"{amount} to move to {dict(tokens)}."
        )
    left = balance - moved
    wanted = left if amount is None else amount
    if left < 0 or wanted > left:
        raise Refused(
            f"Students would carry {moved + wanted} of a teacher that cost {balance}.",
            f"At most {max(0, left)} is left to move.",
        )
    if not any(tokens.values()):
        raise InvalidInput(
            "No student used the teacher.", hint="Its cost stays with it and is shown upstream."
        )
    return largest_remainder(wanted, tokens)
