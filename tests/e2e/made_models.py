"""Models made for a story: eight classes, as fast, as right and as dear as it needs them."""

from hashlib import sha256
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tests.registry_client import client_of

from steelyard.bootstrap import Platform
from steelyard.domain.model_version import Candidate, Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 8)),), (TensorSpec("y", "FP32", (-1, 8)),))
SIZE = 384


def classifier(version: int, wrong: bool = False, products: int = 0) -> bytes:
    """The largest input wins, or its neighbour when ``wrong``; another file for each version.

    ``products`` of large matrices are work whose result adds nothing.
    """
    order = np.roll(np.eye(8), 1, axis=1) if wrong else np.eye(8)
    values = [numpy_helper.from_array((order * (1 + version / 100)).astype(np.float32), "w")]
    nodes, last = [helper.make_node("MatMul", ["x", "w"], ["z"])], "z"
    if products:
        more, constants = _work(version, products)
        nodes, values, last = nodes + more, values + constants, "worked"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    return _file(nodes, values)


def stillborn() -> bytes:
    """A file that loads and whose first inference fails: it never becomes ready."""
    seven = numpy_helper.from_array(np.array([7, 7], np.int64), "seven")
    return _file([helper.make_node("Reshape", ["x", "seven"], ["y"])], [seven])


def _work(version: int, products: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """It begins with the input, or it would be done beforehand."""
    random = np.random.default_rng(version).normal(0, 0.01, (SIZE, SIZE)).astype(np.float32)
    values = [numpy_helper.from_array(random, "m"),
              numpy_helper.from_array(np.zeros((), np.float32), "zero")]  # fmt: skip
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
             helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
             helper.make_node("Add", ["m", "nothing"], ["p0"])]  # fmt: skip
    for n in range(products):
        nodes.append(helper.make_node("MatMul", [f"p{n}", "m"], [f"p{n + 1}"]))
    nodes += [helper.make_node("ReduceSum", [f"p{products}"], ["all"], keepdims=0),
              helper.make_node("Mul", ["all", "zero"], ["still"]),
              helper.make_node("Add", ["z", "still"], ["worked"])]  # fmt: skip
    return nodes, values


def _file(nodes: list[NodeProto], values: list[TensorProto]) -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def register(platform: Platform, model: str, content: bytes) -> int:
    """The next version of a model in the registry; nothing of it was measured."""
    client = client_of(platform)
    known = client.get_experiment_by_name(model)
    root = platform.settings.artifact_root.as_uri()
    experiment = known.experiment_id if known else client.create_experiment(model, root)
    info = client.create_run(experiment).info
    folder = Path(urlparse(info.artifact_uri).path) / "model"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    found = platform.registry.register(
        Candidate(model, info.run_id, f"{info.artifact_uri}/model", "model.onnx",
                  sha256(content).hexdigest(), len(content), "fp32", "trained", SIGNATURE)
    )  # fmt: skip
    return found.version
