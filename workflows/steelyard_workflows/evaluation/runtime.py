"""onnxruntime as the replicas use it: one thread, on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

BATCH = 256


def session(path: Path) -> onnxruntime.InferenceSession:
    """A model ready to run. One thread: more would double the CPU time that is booked."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )


def logits_of(
    runtime: onnxruntime.InferenceSession, rows: NDArray[Any]
) -> NDArray[np.float32]:  # fmt: skip
    """The first output for these rows."""
    output: Any = runtime.run(None, {runtime.get_inputs()[0].name: rows})[0]
    result: NDArray[np.float32] = output
    return result


def classes_of(runtime: onnxruntime.InferenceSession, rows: NDArray[Any]) -> NDArray[np.int64]:
    """The first choice for each label of these rows, a batch at a time: logits may be large."""
    batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return np.concatenate([logits_of(runtime, batch).argmax(-1) for batch in batches])
