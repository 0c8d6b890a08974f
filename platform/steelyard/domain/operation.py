"""What an operator asks of versions beside rollouts: shadows, and an early end of service.

Both are facts: who asked for what, when and why. The newest one of a model, or of a version,
counts.
"""

from dataclasses import dataclass

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.traffic import BUCKETS


@dataclass(frozen=True, slots=True)
class ShadowSetting:
    """Which version of a model gets copies of what share of stable's requests.

    ``share_bp`` is in basis points of the buckets; ``version`` None: none gets any.
    """

    model: str
    version: int | None
    share_bp: int
    actor: str
    reason: str
    set_us: int


@dataclass(frozen=True, slots=True)
class Drain:
    """A version was taken out of service: what kept it warm before that moment does not now."""

    model: str
    version: int
    actor: str
    reason: str
    drained_us: int


def share_bp(percent: float) -> int:
    """A share in percent as basis points.

    >>> share_bp(10), share_bp(0.5)
    (1000, 50)

    Raises:
        InvalidInput: it is not above 0 and at most 100, or finer than a basis point.
    """
    found = round(percent * 100)
    if not 0 < found <= BUCKETS or abs(found - percent * 100) > 1e-6:
        fault = Fault("share", f"is above 0 and at most 100 percent, in hundredths, not {percent}")
        raise InvalidInput(str(fault), (fault,))
    return found
