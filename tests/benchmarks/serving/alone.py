"""What onnxruntime does in this process, with nobody between: the answer, and how long it takes."""

import statistics
import time

import numpy as np
import onnxruntime
from networks import INPUT, OUTPUT, Network

CALLS = 1_000


def alone(network: Network) -> tuple[list[float], float]:
    """The answer on one thread, and the median of a call in milliseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network.file), options)
    rows = {INPUT: np.array(network.nested(), np.float32)}
    took = []
    for _ in range(CALLS):
        started = time.perf_counter()
        (output,) = session.run([OUTPUT], rows)
        took.append(time.perf_counter() - started)
    return [float(value) for value in output[0]], statistics.median(took) * 1e3
