"""What an operator asks of versions beside rollouts: shadows, and an early end of service.

Both are facts: who asked for what, when and why. The newest one of a model, or of a version,
counts. Rollouts ask for shadows as well, by their plans.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.rollout import Rollout
from steelyard.domain.serving_snapshot import Shadow
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


def shadows_of(
    setting: ShadowSetting | None, rollouts: Iterable[Rollout]
) -> tuple[Shadow, ...]:  # fmt: skip
    """Who repeats a model's requests: an operator's shadow, else those of its open rollouts."""
    if setting is not None and setting.version is not None:
        return (Shadow(setting.version, setting.share_bp),)
    found = (_shadow_of(rollout) for rollout in rollouts)
    return tuple(shadow for shadow in found if shadow is not None)


def _shadow_of(rollout: Rollout) -> Shadow | None:
    """The candidate before it answers everything, the old version while that is on probation."""
    plan = rollout.plan
    if rollout.stable is None or not rollout.is_open or rollout.step < 0:
        return None
    if rollout.condition == "probation":
        share = plan.reverse_shadow_bp
        return Shadow(rollout.stable, share, "canary") if share else None
    share = plan.steps[rollout.step].shadow_bp
    aborted = rollout.condition == "aborting"
    return Shadow(rollout.candidate, share) if share and not aborted else None


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
