"""The registry's versions for pages: a few seconds old at most, and never waited for long."""

import logging
import threading
import time
from dataclasses import dataclass

from steelyard.bootstrap import Platform
from steelyard.domain.errors import NotFound
from steelyard.domain.model_version import ModelVersion

LOG = logging.getLogger(__name__)

FRESH_S = 5.0
PATIENCE_S = 2.0
"""How long a page waits for the registry before it is shown without evidence."""


@dataclass
class _Look:
    """One question to the registry; ``done`` is set when it answered or failed."""

    done: threading.Event
    at_s: float = 0.0


class Evidence:
    """What the registry knows of a model's versions, remembered between page views.

    A registry that hangs is asked by one thread a model, not by one a request; meanwhile the last
    answer is shown.
    """

    def __init__(
        self, platform: Platform, fresh_s: float = FRESH_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._platform = platform
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}
        self._known: dict[str, tuple[ModelVersion, ...]] = {}

    def versions(self, model: str) -> tuple[ModelVersion, ...] | None:
        """All registered versions, oldest first; None when the registry never answered."""
        look = self._current(model)
        look.done.wait(self._patience_s)
        return self._known.get(model)

    def _current(self, model: str) -> _Look:
        """The look that is under way or still fresh, else a new one."""
        with self._lock:
            look = self._looks.get(model)
            stale = look is None or (
                look.done.is_set() and time.monotonic() - look.at_s > self._fresh_s
            )
            if look is None or stale:
                look = self._looks[model] = _Look(threading.Event())
                threading.Thread(target=self._ask, args=(model, look), daemon=True).start()
            return look

    def _ask(self, model: str, look: _Look) -> None:
        try:
            self._known[model] = tuple(self._platform.registry.versions(model))
        except NotFound:
            self._known[model] = ()
        except Exception as error:  # whatever a remote registry raises, the page is still shown
            LOG.warning("the registry did not answer for %s: %s", model, error)
        finally:
            look.at_s = time.monotonic()
            look.done.set()
