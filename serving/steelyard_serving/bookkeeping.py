"""What the controller keeps apart from its turns: facts into SQL, the ledger's posting, erasure.

All of it may take seconds under load, and none of it decides about traffic.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from steelyard.bootstrap import Platform
from steelyard.bootstrap.counting import counters
from steelyard.domain.rollout import SECOND_US
from steelyard.services.retention import MOST
from steelyard.settings import Settings
from steelyard_serving.registry_watch import RegistryWatch

ERASE_EVERY_S = 3_600
LONGEST_REST_S = 0.1
log = logging.getLogger("steelyard.controller")


def settled_after_us(settings: Settings, collected_us: int, now_us: int) -> int:
    """How old facts are by now at least that are all in SQL: more while the books are behind."""
    late_us = max(0, now_us - collected_us - int(settings.tick_s * SECOND_US))
    return int(settings.settle_s * SECOND_US) + late_us


class Rests:
    """A rest as long as the work before it, so that requests are not held up for long at once."""

    def __init__(self) -> None:
        self._resumed_s = time.monotonic()

    def __call__(self) -> None:
        """Rest."""
        time.sleep(min(time.monotonic() - self._resumed_s, LONGEST_REST_S))
        self._resumed_s = time.monotonic()


@dataclass
class Bookkeeping:
    """``keep`` may be called at any time, from any thread, and repeated."""

    platform: Platform
    watch: RegistryWatch
    collected_us: int = 0
    """What was written before is in SQL."""
    _posted: float = float("-inf")
    _erased: float = float("-inf")
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, between: Callable[[], None] = lambda: None) -> None:
        """Collect what was measured, and post it when it is time.

        ``between`` is called after each segment.

        Raises:
            Unavailable: the database does not answer; what is not stored yet stays in the spool.
        """
        with self._keeping:
            self._keep(between)

    def _keep(self, between: Callable[[], None]) -> None:
        metering, began_us = self.platform.metering, self.platform.clock.now_us()
        collected = metering.collect(between)
        self.collected_us = began_us
        if collected.conflicts or collected.damaged:
            log.error("%d conflicting facts, %d damaged segments", collected.conflicts,
                      collected.damaged)  # fmt: skip
        if time.monotonic() - self._posted < self.platform.settings.posting_interval_s:
            return
        metering.close_silent(self.platform.settings.meter_interval_s)
        self.platform.books.post()
        self._posted = time.monotonic()
        self._fold_counters()
        self._erase()
        self.watch.learn()  # after posting, which does not wait for answers

    def _fold_counters(self) -> None:
        try:
            counters(self.platform.settings).fold()
        except OSError as error:  # a full disk; the files stay and are folded another time
            log.warning("the counters of replicas that are gone stay apart: %s", error)

    def _erase(self) -> None:
        """Once an hour, or as long as there is more: predictions that are past their retention."""
        if time.monotonic() - self._erased < ERASE_EVERY_S:
            return
        erased = self.platform.retention.erase("controller")
        for one in erased:
            log.info("%s: erased %d predictions that were kept for %d days", one.model,
                     one.predictions, one.retention_days)  # fmt: skip
        if sum(one.segments for one in erased) < MOST:
            self._erased = time.monotonic()
