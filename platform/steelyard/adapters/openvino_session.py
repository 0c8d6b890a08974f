"""How OpenVINO runs an ONNX file, everywhere: one thread, one stream, on the CPU, in FP32.

Without the hint OpenVINO computes in BF16 where the CPU can, and says nothing: what is FP32 in
the file stays FP32.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Importing OpenVINO would make a file in the home and, unless told otherwise there, send what it
# is used for. Where the module that does this is missing, it goes on without; so does NNCF.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402  # see above

from steelyard.adapters.hardware import THREADS  # noqa: E402

DEVICE = "CPU"
HOW = {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoSession:
    """A model's bytes, ready to run; nothing but the graph in them is executed."""

    def __init__(self, data: bytes) -> None:
        core = openvino.Core()
        self._model = core.compile_model(core.read_model(data), DEVICE, HOW)
        self._request = self._model.create_infer_request()
        self.inputs = tuple(port.get_any_name() for port in self._model.inputs)
        self._outputs = {port.get_any_name(): n for n, port in enumerate(self._model.outputs)}

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """These outputs, in this order; None: all of them."""
        found = self._request.infer(dict(inputs), share_inputs=True)
        # Copies: the request's own memory is overwritten by the next call.
        return [found[self._outputs[name]].copy() for name in outputs or self._outputs]

    def zeros(self) -> dict[str, Any]:
        """One row that the model takes."""
        return {
            port.get_any_name(): np.zeros(
                [1 if n.is_dynamic else n.get_length() for n in port.get_partial_shape()],
                port.get_element_type().to_dtype(),
            )
            for port in self._model.inputs
        }
