"""Ray Train's trainer for a cluster that cannot grow: our own, on one machine.

Ray Train announces its demand to a detached actor of Ray Data's, which helps clusters that grow.
On our own Ray it costs each first run some seconds and 200 MB, and afterwards it keeps the head
from stopping for half a minute. The two overridden methods are Ray 2.60's internals; a setting of
Ray's that turns the announcement off would let us delete this module.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy


class UnannouncedScaling(FixedScalingPolicy):
    """A worker group of fixed size that tells no autoscaler about itself."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Makes no client for the coordinator."""

    def _maybe_send_resource_request(self) -> None:
        """There is nobody to ask."""


class FixedClusterTrainer(TorchTrainer):
    """A ``TorchTrainer`` on a cluster of fixed size."""

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        scaling: Any = self.scaling_config  # typed for Train v1, which is not what runs
        arguments["scaling_policy"] = UnannouncedScaling(scaling)
        return super()._initialize_and_run_controller(**arguments)  # type: ignore[misc]
