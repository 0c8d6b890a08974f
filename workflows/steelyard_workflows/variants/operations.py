"""An ONNX file for one row, taken apart: operations as JSON, weights as safetensors."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

from steelyard.domain.errors import Refused

FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)})


def hand_over(path: Path, rows: NDArray[Any], into: Path) -> None:
    """Write ``graph.json`` and ``weights.safetensors`` of a file.

    Raises:
        Refused: an operation is not ONNX's own, gives several results, or contains a graph.
    """
    model = for_one_row(path)
    tensors = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    weights = {name: np.ascontiguousarray(value) for name, value in tensors.items()
               if value.dtype in FLOATS}  # fmt: skip
    document = {
        "input": model.graph.input[0].name,
        "output": model.graph.output[0].name,
        "shape": [1, *rows.shape[1:]],
        "dtype": str(rows.dtype),
        "numbers": {name: value.tolist() for name, value in tensors.items() if name not in weights},
        "nodes": [_node(node) for node in model.graph.node],
    }
    (into / "graph.json").write_text(json.dumps(document), encoding="utf-8")
    save_file(weights, into / "weights.safetensors")


def for_one_row(path: Path) -> onnx.ModelProto:
    """The model for a batch of one: what is computed from shapes alone becomes a constant."""
    model = onnx.load(path)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_value = 1
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as scratch:
        options.optimized_model_filepath = str(Path(scratch) / "one.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options,
                                     providers=["CPUExecutionProvider"])  # fmt: skip
        return onnx.load(options.optimized_model_filepath)


def _node(node: onnx.NodeProto) -> dict[str, Any]:
    results = [name for name in node.output if name]
    if node.domain not in ("", "ai.onnx") or len(results) != 1 or "" in node.input:
        raise Refused(f"{node.op_type} cannot be handed over: it is not a plain operation of ONNX.")
    return {"op": node.op_type, "inputs": list(node.input), "output": results[0],
            "attributes": {one.name: _attribute(one, node) for one in node.attribute}}  # fmt: skip


def _attribute(attribute: onnx.AttributeProto, node: onnx.NodeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    if all(isinstance(one, int | float) for one in value):
        return list(value)
    raise Refused(f"{attribute.name} of {node.op_type} cannot be handed over.")
