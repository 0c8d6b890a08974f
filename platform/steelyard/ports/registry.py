"""The model registry, as the platform needs it."""

from pathlib import Path
from typing import Protocol

from steelyard.domain.model_version import Candidate, ModelVersion


class Registry(Protocol):
    """Versions are immutable once registered; aliases are projections of our own history."""

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        ...

    def versions(self, model: str) -> list[ModelVersion]:
        """All complete versions of a model, oldest first. Raises NotFound for an unknown model."""
        ...

    def version(self, model: str, version: int) -> ModelVersion:
        """One version. Raises NotFound, or Refused when it was not registered by Steelyard."""
        ...

    def register(self, candidate: Candidate) -> ModelVersion:
        """Make a version out of a logged model in one write, tags and all."""
        ...

    def aliases(self, model: str) -> dict[str, int]:
        """Alias -> version."""
        ...

    def all_aliases(self) -> dict[str, dict[str, int]]:
        """Model -> alias -> version, of every model at once."""
        ...

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version; repeating it changes nothing.

        Raises NotFound for an unknown version.
        """
        ...

    def drop_alias(self, model: str, alias: str) -> None:
        """Let an alias point nowhere; repeating it changes nothing."""
        ...

    def delete(self, model: str, version: int) -> None:
        """Take a version out of the registry; its files stay. Raises NotFound when it is gone."""
        ...

    def check(self, version: ModelVersion) -> None:
        """Prove the registry's own copy of a version's file, whatever is in any cache.

        Raises NotFound when it is gone, Refused when its bytes are not what was registered.
        """
        ...

    def fetch(self, version: ModelVersion, cache: Path) -> Path:
        """The artefact as a private file under ``cache``, its SHA-256 checked.

        Raises Refused when the bytes differ from what was registered.
        """
        ...
