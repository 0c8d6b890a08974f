"""Replicas to compare memory with, on the platform's own Ray.

    STEELYARD_HOME=… python witnesses.py MODEL

``empty`` is what Ray Serve itself takes; ``modules`` is Steelyard's replica of the model's first
version, which says what it imported, too; ``heavy`` imports torch and MLflow and
holds the perceptron, as a server that loads its model by them would. What each says of itself is
printed as JSON.
"""

import json
import os
import sys
from dataclasses import replace
from typing import Any

import ray
from networks import perceptron
from ray import cloudpickle, serve

from steelyard.bootstrap import Platform
from steelyard.ports.applications import ServedVersion
from steelyard.settings import load_settings
from steelyard_serving.app import deployment_of
from steelyard_serving.deployment import Replica

HEAVY = ("torch", "mlflow")


def who() -> dict[str, Any]:
    """This process, and what it imported."""
    return {"pid": os.getpid(), "imported": [one for one in HEAVY if one in sys.modules]}


class Empty:
    """Nothing but Ray Serve."""

    def told(self) -> dict[str, Any]:
        """Who it is, and what it imported."""
        return who()


class Heavy(Empty):
    """A network held by torch, in a process that MLflow loaded it into."""

    def __init__(self) -> None:
        import mlflow.pytorch
        import torch

        self._network = perceptron().eval()
        with torch.inference_mode():
            self._network(torch.zeros(1, 784))
        self._of = mlflow.pytorch.__name__


class Told(Replica):
    """Steelyard's replica, model loaded and meter running."""

    def told(self) -> dict[str, Any]:
        """Who it is, and what it imported."""
        return who()


def main() -> None:
    """Start them beside the platform's own applications, and leave them there."""
    settings = load_settings()
    platform = Platform(settings)
    registered = platform.registry.version(sys.argv[1], 1)
    # A name of its own, and so a door of its own.
    version = replace(registered, model="witness")
    served = ServedVersion(version, platform.registry.fetch(registered, settings.cache_dir))
    ray.init(address=settings.local_ray_address, namespace="steelyard", log_to_driver=False)
    cloudpickle.register_pickle_by_value(sys.modules["networks"])
    made: dict[str, Any] = {
        "empty": serve.deployment(name="empty")(Empty).bind(),
        "heavy": serve.deployment(name="heavy")(Heavy).bind(),
        "modules": deployment_of(Told, version, settings).bind(served, settings),
    }
    found = {}
    for name, one in made.items():
        handle = serve.run(one, name=f"witness_{name}", route_prefix=None)
        found[name] = handle.told.remote().result()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
