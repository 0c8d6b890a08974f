"""One version, loaded: verified bytes in an ONNX Runtime session of one thread."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import ModelVersion
from steelyard_serving.open_inference import DTYPES, Array, zeros

PROVIDERS = ["CPUExecutionProvider"]


class OnnxModel:
    """A version that answers. Nothing of the artefact is executed but the graph itself.

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
        self._session = onnxruntime.InferenceSession(data, _options(), providers=PROVIDERS)
        self._outputs = [spec.name for spec in version.signature.outputs]
        self.warmup_ns = self._time_of_one()
        """Time of the first inference, which also allocates."""
        self.steady_ns = self._time_of_one()
        """Time of the second: what one item costs from now on."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Infer. Holds the calling thread for as long as it takes.

        Raises:
            Exception: whatever ONNX Runtime raises when the graph does not take the inputs.
        """
        values = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, values, strict=True))

    def _time_of_one(self) -> int:
        started = time.perf_counter_ns()
        self.run(zeros(self.version.signature))
        return time.perf_counter_ns() - started


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # One replica is one device of the ledger, so it computes in one thread and never spins.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _refuse_unknown_types(version: ModelVersion) -> None:
    tensors = (*version.signature.inputs, *version.signature.outputs)
    for spec in tensors:
        if spec.datatype not in DTYPES:
            raise Refused(f"{version.name}: {spec.name} is {spec.datatype}, which is not served.")
