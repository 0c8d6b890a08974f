"""Predictions are kept as long as their model's policy says, and then erased, on record."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steelyard.adapters.sql.erasures import Due, ErasureStore
    from steelyard.ports.clock import Clock

MOST = 1_000
"""Segments that are erased at once; whoever finds so many asks again."""
TRANSACTION = 20_000
"""Predictions that are deleted in one transaction, for others wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What one model's retention took, or would take, away; times in microseconds."""

    model: str
    retention_days: int
    segments: int
    predictions: int
    first_us: int
    last_us: int


class Retention:
    """The use cases of erasing predictions.

    Whole segments go, once each of their predictions is past its time; a segment's row and its
    digest stay, with who erased it, when and by which number of days.
    """

    def __init__(
        self, store: "ErasureStore", days: Callable[[], Mapping[str, int]], clock: "Clock"
    ) -> None:
        self._store = store
        self._days = days
        self._clock = clock

    def due(self) -> list[Erased]:
        """What ``erase`` would take away now."""
        return _by_model(self._store.due(self._days(), self._clock.now_us(), MOST))

    def erase(self, actor: str) -> list[Erased]:
        """Erase what is past its time, at most the oldest ``MOST`` segments of it."""
        now = self._clock.now_us()
        gone: list[Due] = []
        for some in _together(self._store.due(self._days(), now, MOST)):
            gone += self._store.erase(some, actor, now)
        return _by_model(gone)


def _together(due: "list[Due]") -> "Iterator[list[Due]]":
    """Segments whose predictions are few enough for one transaction, at least one of them."""
    some: list[Due] = []
    for one in due:
        if some and sum(each.records for each in some) + one.records > TRANSACTION:
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def _by_model(due: "list[Due]") -> list[Erased]:
    models: dict[str, list[Due]] = {}
    for one in due:
        models.setdefault(one.model, []).append(one)
    return [
        Erased(
            model, own[0].retention_days, len(own), sum(one.records for one in own),
            min(one.first_us for one in own), max(one.last_us for one in own),
        )
        for model, own in sorted(models.items())
    ]  # fmt: skip
