"""Telling an outside witness what the ledger says, and holding the ledger against its word.

The witness may be away for as long as it likes: nothing here stops posting, and what was not
told is told when it answers again.
"""

from dataclasses import dataclass, field
from logging import Logger
from typing import TYPE_CHECKING

from steelyard.domain.errors import Refused, Unavailable
from steelyard.domain.witness import Statements, breaks, published_seqs, statements

if TYPE_CHECKING:
    from steelyard.adapters.sql.anchors import AnchorStore
    from steelyard.ports.witness import Witness


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing did: what was told, what contradicts it, and why it could not be told.

    An alarm is in the first publication that finds it, and in no later one of the same process;
    so is ``missed``, unless the reason changes.
    """

    new: Statements = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    missed: str = ""

    def tell(self, log: Logger) -> None:
        """Write it to a log; what was published is worth a line there too."""
        for key, text in sorted(self.new.items()):
            log.info("published %s: %s", key, text)
        for alarm in self.alarms:
            log.error("the ledger is not what was published: %s", alarm)
        if self.missed:
            log.warning("the ledger's head was not published: %s", self.missed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many statements the ledger was held against, and how many it has yet to publish.

    Both are None when the witness did not answer. Many that are unpublished, on a platform whose
    controller runs, mean that somebody took them away.
    """

    compared: int | None
    unpublished: int | None = None
    broken: tuple[str, ...] = ()
    missed: str = ""


class Witnessing:
    """The use cases of being checked from outside."""

    def __init__(self, witness: "Witness", anchors: "AnchorStore") -> None:
        self._witness = witness
        self._anchors = anchors
        self._known: Statements = {}
        self._alarmed: frozenset[str] = frozenset()
        self._missed = ""

    def publish(self) -> Publication:
        """Publish what is not yet; whether it succeeds or not, the caller goes on.

        Without news the witness is not asked.
        """
        ours = self._said()
        if ours.items() <= self._known.items():
            return Publication()
        try:
            published = self._witness.published()
            new = {key: text for key, text in ours.items() if key not in published}
            if new:
                self._witness.publish(new)
        except (Unavailable, Refused) as error:
            before, self._missed = self._missed, str(error)
            return Publication(missed="" if str(error) == before else str(error))
        self._missed = ""
        # Also what was published otherwise: it was looked at, and is an alarm below.
        self._known = {**published, **ours}
        found = self._breaks(published, ours)
        alarms = tuple(one for one in found if one not in self._alarmed)
        self._alarmed |= set(found)
        return Publication(new, alarms)

    def compare(self) -> Comparison:
        """Hold the ledger against everything that was published; changes nothing."""
        try:
            # First, so that whatever is published meanwhile is in what is read after it.
            published = self._witness.published()
        except Unavailable as error:
            return Comparison(None, missed=str(error))
        ours = self._said()
        unpublished = len(ours.keys() - published.keys())
        return Comparison(len(published), unpublished, self._breaks(published, ours))

    def _said(self) -> dict[str, str]:
        return statements(self._anchors.heads(), self._anchors.closed())

    def _breaks(self, published: Statements, ours: Statements) -> tuple[str, ...]:
        return breaks(published, ours, self._anchors.hashes(published_seqs(published)))
