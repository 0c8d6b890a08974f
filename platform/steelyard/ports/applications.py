"""The serving applications, one per deployed version."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from steelyard.domain.model_version import ModelVersion

ApplicationPhase = Literal["starting", "ready", "unhealthy", "failed"]


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version with its verified artefact on this machine."""

    version: ModelVersion
    artifact: Path


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """How an application is; ``reason`` says why it is not ready."""

    phase: ApplicationPhase
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Between how many replicas a version has; if the two differ, the number follows the load."""

    least: int = 1
    most: int = 1


ONE = Replicas()


class Applications(Protocol):
    """Declarative: say what should run, ask how it is. Every call may be repeated."""

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """Start this version's application unless it runs already; does not wait.

        Another number of replicas starts or stops some and leaves the others alone.
        """
        ...

    def remove(self, model: str, version: int) -> None:
        """Drain and stop a version's application; nothing happens when it is gone."""
        ...

    def states(self) -> Mapping[tuple[str, int], ApplicationState]:
        """All applications that exist. ``ready`` means: a real inference just succeeded."""
        ...
