# mypy: ignore-errors
"""MLServer: its own runtimes know no ONNX, so this is one. mlserver start FOLDER."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxRuntime(MLModel):
    """One model; the file is what its settings call the URI."""

    async def load(self):
        """Load the file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload):
        """Infer."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = self.session.run(None, {"input": rows})[0]
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("logits", output)]
        )
