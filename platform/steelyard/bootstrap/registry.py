"""The model registry, and whether it answers."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.adapters.mlflow_registry import MlflowRegistry
    from steelyard.ports.registry import Registry


class OnFirstUse:
    """The registry, opened when something is asked of it.

    Importing MLflow takes two seconds, and a rollback asks the registry nothing.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def _opened(self) -> "MlflowRegistry":
        from steelyard.adapters.mlflow_registry import MlflowRegistry

        return MlflowRegistry(self._uri)

    def __getattr__(self, name: str) -> Any:
        """What the registry has."""
        return getattr(self._opened, name)


def registry(settings: Settings) -> "Registry":
    """The model registry."""
    return cast("Registry", OnFirstUse(settings.registry_uri))


def check_registry(settings: Settings) -> None:
    """Ask the registry once whether it answers.

    Raises:
        Unavailable: nobody does; its own client would go on trying for minutes.
    """
    from steelyard.adapters.mlflow_answers import check_answers

    check_answers(settings.registry_uri)
