# mypy: ignore-errors
"""LitServe: python litserve_server.py FILE PORT."""

import sys

import litserve
import numpy
import onnxruntime


class Api(litserve.LitAPI):
    """One model; its worker is a process of its own."""

    def setup(self, device):
        """Load the file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)

    def decode_request(self, request):
        """Read the rows."""
        return numpy.asarray(request["input"], numpy.float32)

    def predict(self, rows):
        """Infer."""
        return self.session.run(None, {"input": rows})[0]

    def encode_response(self, output):
        """Write the answer."""
        return {"output": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
