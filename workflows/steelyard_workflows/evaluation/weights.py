"""How many weights an ONNX file has, and how many of them are not zero, quantized ones too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

FLOATS = frozenset({
    onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
})  # fmt: skip
PLACES: dict[str, tuple[int, int | None, int]] = {
    "DequantizeLinear": (0, 1, 2),
    "MatMulInteger": (1, None, 3),
    "ConvInteger": (1, None, 3),
    "QLinearMatMul": (3, 4, 5),
    "QLinearConv": (3, 4, 5),
    "DynamicQuantizeMatMul": (1, 2, 3),
    "MatMulNBits": (1, 2, 3),
    "GatherBlockQuantized": (0, 2, 3),
}
"""Operations on quantized weights: at which input the weight, its scale and its zero point are."""
PACKED = frozenset({"MatMulNBits", "GatherBlockQuantized"})
"""Of these, those that hold two 4-bit weights in a byte."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Counts over a whole file; None: unknown."""

    parameters: int | None
    nonzero: int | None


def count_weights(path: Path) -> Weights:
    """Weights of a file: its floating initialisers, and the quantized ones by what they stand for.

    A scale or a zero point is no weight. A quantized weight is zero where it equals its zero
    point.
    """
    graph = onnx.load(path).graph
    tensors = {one.name: one for one in graph.initializer}
    counted: dict[str, tuple[int, int]] = {}
    scales: set[str] = set()
    for node in graph.node:
        if node.op_type in PLACES:
            weight, scale, zero = _inputs(node)
            # The quantizer for dynamic INT8 multiplies with the scale elsewhere, by this name.
            scales |= {scale, weight.removesuffix("_quantized") + "_scale"}
            if weight in tensors:
                counted[weight] = _quantized(node, tensors[weight], tensors.get(zero))
    for name, tensor in tensors.items():
        if tensor.data_type in FLOATS and name not in scales:
            values = numpy_helper.to_array(tensor)
            counted[name] = values.size, int(np.count_nonzero(values))
    return Weights(sum(n for n, _ in counted.values()), sum(n for _, n in counted.values()))


def _inputs(node: onnx.NodeProto) -> tuple[str, str, str]:
    weight, scale, zero = PLACES[node.op_type]
    names = [*node.input, *[""] * 6]
    return names[weight], names[scale] if scale is not None else "", names[zero]


def _quantized(
    node: onnx.NodeProto, tensor: onnx.TensorProto, zero: onnx.TensorProto | None
) -> tuple[int, int]:
    values = numpy_helper.to_array(tensor)
    if node.op_type in PACKED and values.dtype == np.uint8:
        values = np.stack([values & 15, values >> 4])
        default = 8
    else:
        values, default = values.astype(np.int64), 0
    return values.size, int((values != _zero_point(node, values, zero, default)).sum())


def _zero_point(
    node: onnx.NodeProto, values: NDArray[Any], tensor: onnx.TensorProto | None, default: int
) -> Any:
    if tensor is None:
        return default
    points = numpy_helper.to_array(tensor).astype(np.int64)
    if node.op_type in PACKED:
        # Asymmetric: a packed weight's own zero point is another for every block.
        return -1
    if points.size == 1 or node.op_type != "DequantizeLinear":
        return points
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [1] * values.ndim
    shape[axis] = points.size
    return points.reshape(shape)
