"""Ray Serve with its defaults.

    python ray_server.py PORT TEMPORARY_FOLDER NAME=FILE…

A Ray of its own; no variable of Ray Serve is set, no HAProxy runs.
"""

import signal
import sys
import threading
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment
class Onnx:
    """One model."""

    def __init__(self, file: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Infer."""
        asked = await request.json()
        rows = np.asarray(asked["input"], np.float32)
        return {"output": self._session.run(None, {"input": rows})[0].tolist()}


def main() -> None:
    """Serve until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(address="local", num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[2])
    serve.start(http_options={"port": int(sys.argv[1])})
    for word in sys.argv[3:]:
        name, _, file = word.partition("=")
        bound = Onnx.bind(file)  # type: ignore[attr-defined]
        serve.run(bound, name=name, route_prefix=f"/{name}")
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
