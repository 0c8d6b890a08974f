"""How onnxruntime runs an ONNX file, everywhere: one thread, no spinning, on the CPU.

A replica is one device of the ledger. More threads, or threads that spin, would double the CPU
time that is booked, and evidence that was measured otherwise would say nothing of a replica.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from steelyard.adapters.hardware import PROVIDER, THREADS

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
         "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int8)": "int8",
         "tensor(uint8)": "uint8", "tensor(bool)": "bool"}  # fmt: skip


class OnnxSession:
    """A model's bytes, ready to run; nothing but the graph in them is executed."""

    def __init__(self, data: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(data, options, providers=[PROVIDER])
        self.inputs = tuple(one.name for one in self._session.get_inputs())

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """These outputs, in this order; None: all of them."""
        found: list[Any] = self._session.run(outputs, dict(inputs))
        return found

    def zeros(self) -> dict[str, Any]:
        """One row that the model takes."""
        return {
            one.name: np.zeros([n if type(n) is int else 1 for n in one.shape], TYPES[one.type])
            for one in self._session.get_inputs()
        }
