"""Ray Train's trainer as our runs need it: without Ray Data, whose data sets none of them has.

Each of Ray Train's helpers is a process that imports Ray Train, some two seconds of a CPU at the
start of every run. The overridden methods are Ray 2.60's internals; settings of Ray's that turn
the helpers off would let us delete this module.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy


class RowsTrainer(TorchTrainer):
    """A ``TorchTrainer`` whose workers are handed their rows: no actor deals out data sets."""

    def _create_default_callbacks(self) -> list[Any]:
        made = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in made if not isinstance(one, DatasetsCallback)]


class UnannouncedScaling(FixedScalingPolicy):
    """A worker group of fixed size that tells no autoscaler about itself."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Makes no client for the coordinator."""

    def _maybe_send_resource_request(self) -> None:
        """There is nobody to ask."""


class FixedClusterTrainer(RowsTrainer):
    """The same on a cluster that cannot grow: our own, on one machine.

    Ray Train announces its demand to a detached actor of Ray Data's, which helps clusters that
    grow. On our own Ray it costs each first run some seconds and 200 MB, and afterwards it keeps
    the head from stopping for half a minute.
    """

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        scaling: Any = self.scaling_config  # typed for Train v1, which is not what runs
        arguments["scaling_policy"] = UnannouncedScaling(scaling)
        return super()._initialize_and_run_controller(**arguments)  # type: ignore[misc]
