"""The model registry, and whether it answers."""

from typing import TYPE_CHECKING

from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.ports.registry import Registry


def registry(settings: Settings) -> "Registry":
    """The model registry."""
    from steelyard.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.registry_uri)


def check_registry(settings: Settings) -> None:
    """Ask the registry once whether it answers.

    Raises:
        Unavailable: nobody does; its own client would go on trying for minutes.
    """
    from steelyard.adapters.mlflow_answers import check_answers

    check_answers(settings.registry_uri)
