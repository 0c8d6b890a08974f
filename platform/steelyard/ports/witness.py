"""Whoever remembers what the ledger said, where the ledger's owner does not write."""

from collections.abc import Mapping
from typing import Protocol


class Witness(Protocol):
    """Statements by key, see ``domain/witness``. Each is made once and never changed."""

    def published(self) -> dict[str, str]:
        """Every statement that was made. Raises Unavailable when nobody answers."""
        ...

    def publish(self, statements: Mapping[str, str]) -> None:
        """Make the statements that are not there yet; one that is there stays as it is.

        Raises Unavailable when nobody answers, Refused when the place for them was taken away.
        """
        ...
