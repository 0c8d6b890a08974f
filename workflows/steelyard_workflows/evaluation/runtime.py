"""onnxruntime as the replicas use it: the same settings, the same call, all outputs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.bootstrap import onnx_session

if TYPE_CHECKING:
    import onnxruntime


def session(path: Path) -> "onnxruntime.InferenceSession":
    """A file, ready to run."""
    return onnx_session(path.read_bytes())


def logits_of(
    runtime: "onnxruntime.InferenceSession", rows: NDArray[Any]
) -> NDArray[np.float32]:  # fmt: skip
    """The first output for these rows; the others are computed with it."""
    output: Any = runtime.run(None, {runtime.get_inputs()[0].name: rows})[0]
    result: NDArray[np.float32] = output
    return result
