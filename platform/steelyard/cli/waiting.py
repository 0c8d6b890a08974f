"""Waiting for the controller: what was asked stands in SQL, this only watches it happen."""

import time
from collections.abc import Callable

from steelyard.bootstrap import Platform, supervisor
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
    platform: Platform, rollout_id: str, seen: Callable[[Rollout], None], timeout_s: float
) -> Rollout:
    """Call ``seen`` whenever the rollout changes until it ends.

    Raises:
        Unavailable: it did not end in time; it goes on without us.
    """
    deadline = time.monotonic() + timeout_s
    last: Rollout | None = None
    while time.monotonic() < deadline:
        found = next(
            s.rollout
            for s in platform.rollout_store.rollouts()
            if s.rollout.rollout_id == rollout_id
        )
        if found != last:
            seen(found)
            last = found
        if not found.is_open:
            return found
        time.sleep(0.3)
    raise Unavailable(
        f"Rollout {rollout_id} goes on, waiting for it ended after {timeout_s:g} s.",
        f"See: steelyard rollout status {last.model if last else ''}",
    )


def settle(platform: Platform, rollout: Rollout, timeout_s: float) -> Rollout:
    """Wait until a deployment or a rollback has all traffic.

    Raises:
        Refused: it ended without taking traffic; the message says why.
    """
    ended = follow(platform, rollout.rollout_id, lambda r: note(f"  {r.reason}"), timeout_s)
    if ended.condition == "failed":
        raise Refused(f"{ended.model}/{ended.candidate} takes no traffic: {ended.reason}")
    return ended
