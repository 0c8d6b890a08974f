"""One version, loaded: verified bytes in a session of one thread, of the version's runtime."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from steelyard.bootstrap.runtimes import runtime_session
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import ModelVersion
from steelyard_serving.protocols.tensors import DTYPES, Array, zeros


class LoadedModel:
    """A version that answers. No code comes from the artefact: graphs and weights are data.

    The very bytes whose digest was checked are loaded, so the file cannot change in between.
    """

    def __init__(self, version: ModelVersion, artifact: Path) -> None:
        self.version = version
        data = artifact.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != version.sha256:
            raise Refused(
                f"The artefact of {version.name} has SHA-256 {found}, "
                f"registered was {version.sha256}.",
                "Register the model again; do not serve changed bytes.",
            )
        _refuse_unknown_types(version)
        self._session = runtime_session(version.runtime, data)
        self._outputs = [spec.name for spec in version.signature.outputs]
        tensors = (*version.signature.inputs, *version.signature.outputs)
        self.takes_batches = all(spec.shape and spec.shape[0] == -1 for spec in tensors)
        """Whether the first dimension is open in all tensors: several requests' rows fit in."""
        inputs = version.signature.inputs
        self._open = tuple(spec.name for spec in inputs if -1 in spec.shape[1:])
        self.warmup_ns = self._time_of_one()
        """Time of the first inference, which also allocates."""
        self.steady_ns = self._time_of_one()
        """Time of the second: what one item costs from now on."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Infer. Holds the calling thread for as long as it takes.

        Raises:
            Exception: whatever the runtime raises when the graph does not take the inputs.
        """
        values = self._session.run(self._outputs, inputs)
        return dict(zip(self._outputs, values, strict=True))

    def form_of(self, inputs: Mapping[str, Array]) -> tuple[tuple[int, ...], ...]:
        """What requests must have in common to be rows of one inference: the rows' shapes.

        Names and datatypes are the signature's in every request.
        """
        return tuple(inputs[name].shape[1:] for name in self._open)

    def _time_of_one(self) -> int:
        started = time.perf_counter_ns()
        self.run(zeros(self.version.signature))
        return time.perf_counter_ns() - started


def _refuse_unknown_types(version: ModelVersion) -> None:
    tensors = (*version.signature.inputs, *version.signature.outputs)
    for spec in tensors:
        if spec.datatype not in DTYPES:
            raise Refused(f"{version.name}: {spec.name} is {spec.datatype}, which is not served.")
