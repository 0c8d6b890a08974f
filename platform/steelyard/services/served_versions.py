"""Versions that serve or did: what they were is kept, whatever becomes of them in the registry.

A version that somebody deletes there while it serves, or while a rollback would return to it,
still starts again: from this record and the artefact that is cached under its digest.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.domain.model_version import ModelVersion
from steelyard.ports.applications import ServedVersion

if TYPE_CHECKING:
    from steelyard.adapters.sql.served_versions import ServedVersionStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry


class ServedVersions:
    """Looks versions up in our own record before the registry."""

    def __init__(
        self, store: "ServedVersionStore", registry: "Registry", clock: "Clock", cache: Path
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._cache = cache

    def version(self, model: str, version: int) -> ModelVersion:
        """A version as it was when it first served, or as the registry has it.

        Raises:
            NotFound, Refused: it never served, and the registry has it not or it is not ours.
        """
        return self._store.version(model, version) or self._registry.version(model, version)

    def served(self, model: str, version: int) -> ServedVersion:
        """A version with its proved file on this machine; from now on its record is kept.

        Raises:
            NotFound, Refused: there is no such version, or no file that is what was registered.
            Unavailable: the registry does not answer, or there is no room.
        """
        found = self.version(model, version)
        path = self._registry.fetch(found, self._cache)
        self._store.keep(found, self._clock.now_us())
        return ServedVersion(found, path)
