"""The composition root: the only file that picks adapters. Imports are inside functions,
because a replica opens a producer and must not load SQLAlchemy or MLflow for it.
"""

from typing import TYPE_CHECKING

from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.adapters.spool import Producer
    from steelyard.ports.registry import Registry


def producer(settings: Settings, producer_id: str) -> "Producer":
    """A writer of facts into this machine's spool."""
    from steelyard.adapters.spool import Producer

    return Producer(settings.spool_dir, producer_id)


def registry(settings: Settings) -> "Registry":
    """The model registry."""
    from steelyard.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.registry_uri)
