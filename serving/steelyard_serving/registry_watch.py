"""The controller's eye on the registry: what is new there, and whether its aliases are ours.

For aliases the registry is asked when one of ours has to move, and every few seconds; when it does
not answer, less often, for it may take its time to say so. Its absence is logged once.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import check_registry
from steelyard.domain.errors import Unavailable
from steelyard.services.aliases import Projections

EVERY_S = 5.0
AWAY_S = 30.0
log = logging.getLogger("steelyard.controller")


@dataclass
class RegistryWatch:
    """What was seen last and when to look again; losing it costs one look."""

    platform: Platform
    now_s: Callable[[], float] = time.monotonic
    _next_s: float = float("-inf")
    _mark: tuple[int, int] | None = None
    _projected: Projections | None = None
    _missed: str = ""

    def learn(self) -> None:
        """Learn versions and publish the ledger's head; not while the registry is away."""
        with self._patiently():
            self.platform.learn_versions()
            self._missed = ""
            self.platform.witnessing.publish().tell(log)

    def turn(self, token: int) -> None:
        """Look at aliases, if it is time or one has to move; not while the registry is away."""
        if not self._due():
            return
        self._next_s = self.now_s() + EVERY_S
        with self._patiently():
            check_registry(self.platform.settings)
            self._missed = ""
            self._look(token)
        if self._missed:
            self._next_s = self.now_s() + AWAY_S

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            if str(error) != self._missed:
                log.warning("%s", error)
            self._missed = str(error)

    def _due(self) -> bool:
        aliases = self.platform.aliases
        moved = False
        if (mark := aliases.mark()) != self._mark:
            projected = aliases.projections()
            moved = projected != self._projected
            self._mark, self._projected = mark, projected
        if not self._projected:  # nothing was ever deployed
            return False
        return self.now_s() >= self._next_s or (moved and not self._missed)

    def _look(self, token: int) -> None:
        for drift in self.platform.aliases.look():
            log.warning("%s: %s", drift.model, drift.summary)
        for rollout in self.platform.drifts.hold(token):
            log.warning("%s: %s", rollout.model, rollout.reason)
        for rollout in self.platform.auto_rollouts.start_due():
            log.info("%s/%d begins: %s", rollout.model, rollout.candidate, rollout.reason)
