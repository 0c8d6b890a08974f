"""What shared inferences gain: a replica's own way in process, batched and not, in turns.

    python tests/benchmarks/batching.py [--rounds N] [--seconds S] [MODEL ...]

Each of so many clients asks again as soon as it is answered. Models with random weights: a wide
perceptron, whose weights are read from memory for one row as for many; an encoder of MiniLM's size
(six layers of 384), in FP32 and INT8, of so many tokens a row; and a small perceptron, for which
there is nothing to gain. ``alone`` is onnxruntime itself, 1 and 32 rows: how much a batch can save
at all.
"""

import argparse
import asyncio
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.serving_snapshot import Snapshot
from steelyard.settings import Settings
from steelyard_serving.http_connection import Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.pipeline import Checks, Unchanging
from steelyard_serving.replica import LoadedModel

CLIENTS = (1, 8, 64)
TARGET_MS, ITEMS = 1_000, 64
WIDTH, HEADS, LAYERS = 384, 12, 6
RAW = {"inference-header-content-length": "0"}
"""The body is the input itself: what is measured is inference, not parsing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What clients saw in one turn: requests a second, latency in ms, rows an inference."""

    rate: float
    p50_ms: float
    p99_ms: float
    rows: float


class Graph:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._random = np.random.default_rng(7)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, value: NDArray[np.generic]) -> str:
        """A constant; its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """A matrix of weights."""
        spread = np.float32(inputs**-0.5)
        drawn = self._random.standard_normal((inputs, outputs), np.float32)
        return self.add("MatMul", x, self.weight(drawn * spread))

    def proto(self, result: str, takes: tuple[int, ...], gives: tuple[int, ...]) -> ModelProto:
        """The model of it all."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        graph = helper.make_graph(
            self.nodes, "bench",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *takes])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *gives])],
            self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def perceptron(*widths: int) -> ModelProto:
    """Matrices with rectifiers between them."""
    graph, x = Graph(), "x"
    for inputs, outputs in pairwise(widths):
        x = graph.add("Relu", graph.dense(x, inputs, outputs))
    return graph.proto(x, widths[:1], widths[-1:])


def encoder(tokens: int) -> ModelProto:
    """Layers of attention and perceptron, as MiniLM has them; its rows are embedded already."""
    graph, x = Graph(), "x"
    split = graph.weight(np.array([0, 0, HEADS, WIDTH // HEADS]))
    whole = graph.weight(np.array([0, 0, WIDTH]))
    scale = graph.weight(np.full((), (WIDTH // HEADS) ** -0.5, np.float32))
    ones, zeros = (graph.weight(np.full(WIDTH, one, np.float32)) for one in (1, 0))
    for _ in range(LAYERS):
        parts = (graph.add("Reshape", graph.dense(x, WIDTH, WIDTH), split) for _ in range(3))
        q, k, v = (
            graph.add("Transpose", part, perm=perm)
            for part, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        scores = graph.add("Softmax", graph.add("Mul", graph.add("MatMul", q, k), scale))
        seen = graph.add("Transpose", graph.add("MatMul", scores, v), perm=[0, 2, 1, 3])
        told = graph.dense(graph.add("Reshape", seen, whole), WIDTH, WIDTH)
        x = graph.add("LayerNormalization", graph.add("Add", x, told), ones, zeros)
        inner = graph.add("Relu", graph.dense(x, WIDTH, 4 * WIDTH))
        x = graph.add(
            "LayerNormalization",
            graph.add("Add", x, graph.dense(inner, 4 * WIDTH, WIDTH)), ones, zeros,
        )  # fmt: skip
    return graph.proto(x, (tokens, WIDTH), (tokens, WIDTH))


Made = tuple[Callable[[], ModelProto], bool, tuple[int, ...], tuple[int, ...]]
"""How it is made, whether in INT8, the shape of a row and of its answer."""


def encoder_of(tokens: int, int8: bool) -> Made:
    """An encoder of rows of so many tokens."""
    return partial(encoder, tokens), int8, (tokens, WIDTH), (tokens, WIDTH)


MODELS: Mapping[str, Made] = {
    "perceptron 784-2048-2048-10": (
        lambda: perceptron(784, 2048, 2048, 10), False, (784,), (10,),
    ),
    "encoder FP32, 16 tokens": encoder_of(16, int8=False),
    "encoder INT8, 16 tokens": encoder_of(16, int8=True),
    "encoder INT8, 4 tokens": encoder_of(4, int8=True),
    "encoder INT8, 2 tokens": encoder_of(2, int8=True),
    "perceptron 784-128-10": (lambda: perceptron(784, 128, 10), False, (784,), (10,)),
}  # fmt: skip


def loaded(name: str, folder: Path) -> LoadedModel:
    """A model as a replica holds it."""
    make, int8, takes, gives = MODELS[name]
    path = folder / f"{name.replace(' ', '-')}.onnx"
    path.write_bytes(make().SerializeToString())
    if int8:
        quantize_dynamic(path, path, weight_type=QuantType.QInt8)
    data = path.read_bytes()
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, *takes)),), (TensorSpec("y", "FP32", (-1, *gives)),)
    )
    return LoadedModel(ModelVersion(
        "bench", 1, "run", "bench", path.name, hashlib.sha256(data).hexdigest(), len(data),
        "int8" if int8 else "fp32", "trained", signature, 1,
    ), path)  # fmt: skip


def alone(model: LoadedModel, rows: int) -> float:
    """Milliseconds a row of onnxruntime, without anything around it."""
    shape = model.version.signature.inputs[0].shape[1:]
    x = np.random.default_rng(1).standard_normal((rows, *shape), np.float32)
    times = []
    for _ in range(12):
        start = time.perf_counter()
        model.run({"x": x})
        times.append((time.perf_counter() - start) * 1e3 / rows)
    return statistics.median(times[2:])


async def asked(ingress: Ingress, body: bytes, clients: int, seconds: float) -> Load:
    """So many clients, each with one request under way."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < until:
            request = Request("POST", "/v/bench/1/infer", RAW, body, time.perf_counter_ns())
            answer = await ingress.answer(request)
            if answer.status != 200:
                raise RuntimeError(answer.body.decode())
            latencies.append((time.perf_counter() - start) * 1e3)
            # A socket would bring the next request in another round of the event loop.
            await asyncio.sleep(0)

    before = executed(ingress)
    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - start
    cuts = statistics.quantiles(latencies, n=100)
    runs = executed(ingress) - before
    return Load(len(latencies) / took, cuts[49], cuts[98], len(latencies) / runs)


def executed(ingress: Ingress) -> int:
    """Inferences so far, as the statistics tell them."""
    told = ingress.statistics()["model_stats"][0]["execution_count"]
    return int(told)


def compared(name: str, folder: Path, settings: Settings, rounds: int, seconds: float) -> None:
    """Print a model's table."""
    model = loaded(name, folder)
    meter = Meter(settings, model.version)
    policies = {"off": ServingPolicy(), "on": ServingPolicy(TARGET_MS, ITEMS)}
    doors = {
        kind: Ingress(model, meter, 2**24, Checks(Unchanging(Snapshot(policies={"bench": policy}))))
        for kind, policy in policies.items()
    }
    shape = model.version.signature.inputs[0].shape[1:]
    body = np.random.default_rng(2).standard_normal((1, *shape), np.float32).tobytes()
    one, many = alone(model, 1), alone(model, 32)
    print(f"\n{name}: alone {one:.2f} ms a row, of 32 {many:.2f}: {one / many:.2f} times\n")
    print("| clients | off req/s | p50/p99 ms | on req/s | p50/p99 ms | rows | gain |")
    print("|---|---|---|---|---|---|---|")
    for clients in CLIENTS:
        seen: dict[str, list[Load]] = {"off": [], "on": []}
        for number in range(rounds):
            for kind in ("off", "on") if number % 2 else ("on", "off"):
                load = asyncio.run(asked(doors[kind], body, clients, seconds))
                seen[kind].append(load)
        line(clients, seen["off"], seen["on"])
    meter.stop()


def line(clients: int, off: list[Load], on: list[Load]) -> None:
    """A row of the table: medians, and the gain with its spread over the rounds."""

    def of(loads: list[Load], name: str) -> float:
        found: list[float] = [getattr(one, name) for one in loads]
        return statistics.median(found)

    gains = sorted(b.rate / a.rate for a, b in zip(off, on, strict=True))
    cells = [
        f"{of(loads, 'rate'):,.0f} | {of(loads, 'p50_ms'):.1f}/{of(loads, 'p99_ms'):.1f}"
        for loads in (off, on)
    ]
    print(
        f"| {clients} | {' | '.join(cells)} | {of(on, 'rows'):.1f} | "
        f"{statistics.median(gains):.2f} ({gains[0]:.2f} to {gains[-1]:.2f}) |"
    )


def main() -> None:
    """Measure all models, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for name in chosen.models:
            compared(name, Path(home), Settings(home=Path(home)), chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
