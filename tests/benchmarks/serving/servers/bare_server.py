"""A bare handler on the platform's own Ray.

    STEELYARD_HOME=… python bare_server.py NAME=FILE…

What the tuned path can do when nothing is asked of it: no signature is checked, nothing counted,
nothing recorded. Ray's HAProxy goes straight to the replica, as it goes to Steelyard's.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson
import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response

from steelyard.settings import load_settings


class Onnx:
    """One model."""

    def __init__(self, file: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options)

    async def __call__(self, request: Request) -> Response:
        """Infer."""
        tensor = orjson.loads(await request.body())["inputs"][0]
        rows = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        (output,) = self._session.run(None, {tensor["name"]: rows})
        return Response(_document(output), media_type="application/json")


def _document(output: Any) -> bytes:
    told = {"name": "logits", "datatype": "FP32", "shape": output.shape, "data": output.ravel()}
    return orjson.dumps({"outputs": [told]}, option=orjson.OPT_SERIALIZE_NUMPY)


def main() -> None:
    """Start the applications beside the platform's own, and leave them there."""
    settings = load_settings()
    ray.init(address=settings.local_ray_address, namespace="steelyard", log_to_driver=False)
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    for word in sys.argv[1:]:
        name, _, file = word.partition("=")
        deployment = serve.deployment(
            name=name, ray_actor_options={"num_cpus": 1}, logging_config=quiet,
            max_ongoing_requests=settings.replica_request_limit,
            max_queued_requests=settings.replica_queue_limit,
        )(Onnx)  # fmt: skip
        # Without a "-v1" in its name, the controller does not take it for a version of a model.
        serve.run(deployment.bind(file), name=f"bare_{name}", route_prefix=f"/bare/{name}")


if __name__ == "__main__":
    main()
