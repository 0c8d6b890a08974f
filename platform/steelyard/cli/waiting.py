"""Waiting for the controller: what was asked stands in SQL, this only watches it happen."""

import time
from collections.abc import Callable, Collection

from steelyard.bootstrap import Platform
from steelyard.bootstrap.processes import supervisor
from steelyard.cli.output import note
from steelyard.domain.errors import Refused, Unavailable
from steelyard.domain.rollout import Rollout


def require_up(platform: Platform) -> None:
    """Refuse to wait for a controller that does not run.

    Raises:
        Unavailable: the embedded platform is down.
    """
    settings = platform.settings
    if supervisor(settings).status() is None and not settings.ray_address:
        raise Unavailable("The platform is not up.", "Start it: steelyard up")


def follow(
    platform: Platform, rollout_ids: Collection[str], seen: Callable[[list[Rollout]], None],
    timeout_s: float,
) -> list[Rollout]:  # fmt: skip
    """Call ``seen`` whenever one of the rollouts changes until all have ended.

    Raises:
        Unavailable: they did not end in time; they go on without us.
    """
    deadline = time.monotonic() + timeout_s
    last: list[Rollout] = []
    while time.monotonic() < deadline:
        stored = platform.rollout_store.rollouts()
        found = [one.rollout for one in stored if one.rollout.rollout_id in rollout_ids]
        found.sort(key=lambda rollout: rollout.candidate)
        if found != last:
            seen(found)
            last = found
        if not any(one.is_open for one in found):
            return found
        time.sleep(0.3)
    raise Unavailable(
        f"Rollout {', '.join(rollout_ids)} goes on, waiting for it ended after {timeout_s:g} s.",
        f"See: steelyard rollout status {last[0].model if last else ''}",
    )


def settle(platform: Platform, rollout: Rollout, timeout_s: float) -> Rollout:
    """Wait until a deployment or a rollback has all traffic.

    Raises:
        Refused: it ended without taking traffic; the message says why.
    """
    (ended,) = follow(
        platform, [rollout.rollout_id], lambda found: note(f"  {found[0].reason}"), timeout_s
    )
    if ended.condition == "failed":
        raise Refused(f"{ended.model}/{ended.candidate} takes no traffic: {ended.reason}")
    return ended
