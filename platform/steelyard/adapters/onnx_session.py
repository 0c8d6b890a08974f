"""How an ONNX file is run, everywhere: one thread, no spinning, on the CPU.

A replica is one device of the ledger. More threads, or threads that spin, would double the CPU
time that is booked, and evidence that was measured otherwise would say nothing of a replica.
"""

import onnxruntime

PROVIDER = "CPUExecutionProvider"
THREADS = 1


def onnx_session(data: bytes) -> onnxruntime.InferenceSession:
    """A model's bytes, ready to run; nothing but the graph in them is executed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=[PROVIDER])
