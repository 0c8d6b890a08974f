"""What metering costs inside a replica: a count, all that a request causes, and requests with it.

    python tests/benchmarks/metering.py

The requests go through a replica's own Python (parsing, inference in ONNX Runtime, encoding,
counting, the record) in this process, in rounds that alternate. In production HTTP
comes on top; ``serving/parts.py`` measures there.
"""

import asyncio
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard.settings import Settings
from steelyard_serving.audit import Answered, Outcome
from steelyard_serving.http_connection import Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import RECORDS_TO_FLUSH, Meter
from steelyard_serving.replica import LoadedModel

ADDS, REQUESTS, ROUNDS = 200_000, 2_000, 9
WIDTH, HIDDEN, CLASSES = 784, 128, 10
HEADERS = {
    "x-steelyard-arm": "stable", "x-steelyard-bucket": "1234", "x-steelyard-generation": "1",
    "x-steelyard-lineage": "-",
}  # fmt: skip
"""What the edge tells a replica with each request."""


class Unmetered(Ingress):
    """Answers like its parent; counts nothing and makes no record."""

    def _count(self, answered: Answered) -> None:
        """Count nothing."""


def network(folder: Path) -> tuple[ModelVersion, Path]:
    """A perceptron of 784, 128 and 10: the smallest model that anybody serves."""
    rng = np.random.default_rng(7)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("a", (WIDTH, HIDDEN)), ("b", (HIDDEN, CLASSES)))
    ]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "b"], ["y"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = proto.SerializeToString()
    onnx.checker.check_model(proto)
    path = folder / "perceptron.onnx"
    path.write_bytes(data)
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, WIDTH)),), (TensorSpec("y", "FP32", (-1, CLASSES)),)
    )
    return ModelVersion(
        "perceptron", 1, "run", "bench", path.name, hashlib.sha256(data).hexdigest(), len(data),
        "fp32", "trained", signature, 1,
    ), path  # fmt: skip


def adding(meter: Meter) -> None:
    """The time of one call, measured one by one; the clock's own time is taken off."""
    samples = []
    for _ in range(ADDS):
        start = time.perf_counter_ns()
        meter.add("serve", 1_000, 1, requests=1)
        samples.append(time.perf_counter_ns() - start)
    empty = []
    for _ in range(ADDS):
        start = time.perf_counter_ns()
        empty.append(time.perf_counter_ns() - start)
    clock = statistics.median(empty)
    cuts = statistics.quantiles(samples, n=100)
    print(
        f"Meter.add                p50 {cuts[49] - clock:,.0f} ns   p99 {cuts[98] - clock:,.0f} ns"
    )


def request() -> bytes:
    """The body of one inference request."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": [0.5] * WIDTH}
    return orjson.dumps({"inputs": [tensor]})


def counting(ingress: Ingress, meter: Meter) -> None:
    """Processor time of all that a request causes: numbers, record, its part of a flush."""
    body, outcome = request(), Outcome(200, 100_000, 1, (3,))
    costs = []
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(RECORDS_TO_FLUSH - 1):
            ingress._count(Answered("0" * 36, HEADERS, time.time_ns() // 1_000, body, outcome))
        meter.flush()
        costs.append((time.process_time_ns() - start) / RECORDS_TO_FLUSH)
    print(
        f"count, record and flush  {statistics.median(costs) / 1e3:,.1f} µs of processor time "
        f"a request  ({min(costs) / 1e3:,.1f} to {max(costs) / 1e3:,.1f})"
    )


def serving(on: Ingress, off: Ingress) -> None:
    """Requests a second with and without metering, in alternating rounds."""
    body = request()

    async def requests(ingress: Ingress) -> float:
        start = time.perf_counter()
        for _ in range(REQUESTS):
            await ingress.answer(
                Request("POST", "/v/perceptron/1/infer", {}, body, time.perf_counter_ns())
            )
        return REQUESTS / (time.perf_counter() - start)

    rates: dict[str, list[float]] = {"on": [], "off": []}
    for number in range(ROUNDS + 1):
        pair = [("on", on), ("off", off)]
        for name, ingress in pair if number % 2 else reversed(pair):
            rate = asyncio.run(requests(ingress))
            if number:
                rates[name].append(rate)
    ratios = sorted(a / b for a, b in zip(rates["on"], rates["off"], strict=True))
    for name, found in rates.items():
        print(f"metering {name:<3}   {statistics.median(found):>10,.0f} requests/s in process")
    print(f"ratio        {statistics.median(ratios):>10.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f})")


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(home=Path(name))
        version, path = network(Path(name))
        meter, model = Meter(settings, version), LoadedModel(version, path)
        on, off = (kind(model, meter, settings.body_limit_bytes) for kind in (Ingress, Unmetered))
        adding(meter)
        counting(on, meter)
        serving(on, off)
        meter.stop()


if __name__ == "__main__":
    main()
