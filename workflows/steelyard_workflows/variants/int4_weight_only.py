"""INT4 weights in blocks with a scale each; activations stay FP32.

The quantizer sees MatMul only, and linear layers are exported as Gemm: without the rewriting
here it would change nothing, and say nothing.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from steelyard.domain.compute import inherited
from steelyard.domain.errors import Refused
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source
from steelyard_workflows.variants.onnx_files import quiet, save


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the form with INT4 weights.

    Raises:
        Refused: no operation was changed, or the file did not become smaller.
    """
    path = bench.into / "model.onnx"
    with bench.watch.measure("compress") as work:
        quantize(source.path, path, int(options["block_size"]), bool(options["embeddings"]))
        work.count(0, source.flops)
    # The weights are INT4, the arithmetic is not.
    profile = source.flops and inherited(source.flops, "parent, int4 weights")
    return Made(path, graph.read(path), profile, source.network)


def quantize(parent: Path, path: Path, block_size: int, embeddings: bool) -> None:
    """Write a file's form with INT4 weights; see ``make``."""
    model = without_gemm(onnx.load(parent))
    axes = {"MatMul": 0} | ({"Gather": 1} if embeddings else {})
    with quiet():
        # Here, because importing it changes how the process logs.
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            model, bits=4, block_size=block_size, is_symmetric=True, accuracy_level=4,
            op_types_to_quantize=tuple(axes), quant_axes=tuple(axes.items()),
        )  # fmt: skip
        quantizer.process()
    save(quantizer.model.model, path)
    done = graph.read(path).operations
    if not done.get("MatMulNBits") and not done.get("GatherBlockQuantized"):
        raise Refused(
            "int4_weight_only changed no operation: the model has no linear layer; "
            "nothing was registered.",
            "Use int8_static for convolutions.",
        )
    graph.check_smaller("INT4", parent, path)


def without_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with each Gemm of constant weights written as MatMul and Add."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        nodes += _rewritten(node, weights, made.graph) if node.op_type == "Gemm" else [node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    left = [tensor for tensor in made.graph.initializer if tensor.name in read]
    del made.graph.initializer[:]
    made.graph.initializer.extend(left)
    return made


def _rewritten(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], into: onnx.GraphProto
) -> list[onnx.NodeProto]:
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA")
    if not plain or node.input[1] not in weights:
        return [node]
    name = node.input[1]
    if given.get("transB"):
        turned = np.ascontiguousarray(numpy_helper.to_array(weights[name]).T)
        name = f"{name}_transposed"
        if name not in weights:
            weights[name] = numpy_helper.from_array(turned, name)
            into.initializer.append(weights[name])
    biased = len(node.input) > 2 and node.input[2]
    out = f"{node.output[0]}_product" if biased else node.output[0]
    product = helper.make_node("MatMul", [node.input[0], name], [out], f"{node.name}_product")
    if not biased:
        return [product]
    return [product, helper.make_node("Add", [out, node.input[2]], [node.output[0]], node.name)]


def doubts(found: graph.Graph) -> tuple[str, ...]:
    """Only linear layers become INT4."""
    if not found.has("Conv"):
        return ()
    return ("int4_weight_only leaves convolutions in FP32: only linear layers become smaller",)


KIND = Kind(
    "int4_weight_only", "quantized", "file", make,
    {"block_size": Option(32, "weights that share a scale", choices=(16, 32, 64, 128, 256)),
     "embeddings": Option(False, "look-up tables too: smaller, less exact")},
    doubts, libraries=("onnx", "onnxruntime"),
)  # fmt: skip
