"""A client of a platform's registry, for what others do who may write to it."""

from typing import TYPE_CHECKING

from steelyard.bootstrap import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient


def client_of(platform: Platform) -> "MlflowClient":
    """The registry behind the platform's back."""
    from mlflow import MlflowClient  # takes seconds to import

    uri = platform.settings.registry_uri
    return MlflowClient(tracking_uri=uri, registry_uri=uri)
