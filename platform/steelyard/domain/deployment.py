"""What should run and how traffic should go, derived from rollouts and promotions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steelyard.domain.rollout import SECOND_US, Rollout

ABORTED_WARM_S = 30.0
"""Seconds that an aborted canary stays up, so that its last answers can finish."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The versions of one model that should run, and why each does."""

    model: str
    versions: Mapping[int, str]


def desired_versions(
    model: str, stable: int | None, rollouts: Iterable[Rollout], now_us: int,
    shadow: int | None = None, drained: Mapping[int, int] | None = None,
) -> Desired:  # fmt: skip
    """Stable, the candidate and stable of an open rollout, a shadow, and what is kept warm.

    ``drained`` says when versions were taken out of service: a rollout that ended before that
    keeps them warm no more.
    """
    wanted: dict[int, str] = {}
    if shadow is not None:
        wanted[shadow] = "shadow"
    for rollout in rollouts:
        if rollout.is_open:
            wanted[rollout.candidate] = "candidate"
            if rollout.stable is not None:
                wanted[rollout.stable] = "stable"
            continue
        warm = _kept_warm(rollout, now_us)
        if warm is not None and (drained or {}).get(warm, 0) <= (rollout.ended_us or 0):
            wanted.setdefault(warm, "warm")
    if stable is not None:
        wanted[stable] = "stable"
    return Desired(model, dict(sorted(wanted.items())))


def warm_until_us(rollouts: Iterable[Rollout], version: int) -> int | None:
    """When the last of a model's rollouts stops keeping a version warm; None: none ever did."""
    spells = [spell for rollout in rollouts if (spell := _warm_spell(rollout))]
    return max((until_us for warm, until_us in spells if warm == version), default=None)


def _kept_warm(rollout: Rollout, now_us: int) -> int | None:
    spell = _warm_spell(rollout)
    return spell[0] if spell is not None and now_us < spell[1] else None


def _warm_spell(rollout: Rollout) -> tuple[int, int] | None:
    """The version that a rollout keeps warm after its end, and until when."""
    if rollout.ended_us is None:
        return None
    if rollout.condition == "healthy" and rollout.stable is not None:
        return rollout.stable, rollout.ended_us + int(rollout.plan.keep_warm_s * SECOND_US)
    if rollout.condition == "degraded":
        return rollout.candidate, rollout.ended_us + int(ABORTED_WARM_S * SECOND_US)
    return None
