"""What producers left in the spool."""

from typing import TypeVar

from steelyard.adapters.spool import read, segments
from steelyard.settings import Settings

F = TypeVar("F")


def spooled(settings: Settings, kind: type[F]) -> list[F]:
    """The facts of one kind, in the order in which a collector reads them."""
    facts = (fact for path in segments(settings.spool_dir) for fact in read(path))
    return [fact for fact in facts if isinstance(fact, kind)]
