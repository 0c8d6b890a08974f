"""A bare handler on Ray Serve's fast way.

    python bare_server.py PORT TEMPORARY_FOLDER NAME=FILE…

What the tuned path can do when nothing is asked of it: no signature is checked, nothing counted,
nothing recorded. Ray's HAProxy goes straight to the replica; the environment says so.
"""

import signal
import sys
import threading
from typing import Any

import numpy as np
import onnxruntime
import orjson
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response


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
    """Serve until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(address="local", num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[2])
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])), logging_config=quiet
    )
    for word in sys.argv[3:]:
        name, _, file = word.partition("=")
        deployment = serve.deployment(
            name=name, ray_actor_options={"num_cpus": 1}, logging_config=quiet,
            max_ongoing_requests=64, max_queued_requests=128,
        )(Onnx)  # fmt: skip
        serve.run(deployment.bind(file), name=name, route_prefix=f"/{name}")
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
