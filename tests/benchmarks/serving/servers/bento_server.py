# mypy: ignore-errors
"""BentoML: FILE=… bentoml serve bento_server:Onnx --port PORT."""

import os

import bentoml
import numpy
import onnxruntime


@bentoml.service
class Onnx:
    """One model."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["FILE"], options)

    @bentoml.api
    def predict(self, input: numpy.ndarray) -> numpy.ndarray:
        """Infer."""
        return self.session.run(None, {"input": input.astype(numpy.float32)})[0]
