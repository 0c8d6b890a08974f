"""INT8 weights, activations quantized while they are computed: for linear layers.

Signed per-channel weights: with the usual unsigned ones a transformer is 1.5 times slower.
"""

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from steelyard.domain.compute import inherited
from steelyard.domain.errors import Refused
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.int8_static import few_parameters
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.onnx_files import const_products, prepare, quiet, save
from steelyard_workflows.variants.processor import REDUCE_RANGE


def refusal(found: graph.Graph) -> str | None:
    """Convolutions have no fast dynamic INT8."""
    if not found.has("Conv"):
        return None
    return (
        f"int8_dynamic does not suit a model with convolutions ({found.operations['Conv']} here): "
        "they become five times slower than in FP32 (measured 0.19 x at batch 32). "
        "Use int8_static."
    )


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the dynamic INT8 form of the source's file.

    Raises:
        Refused: a product with weights stayed in FP32, or the file did not become smaller.
    """
    path = bench.into / "model.onnx"
    with bench.watch.measure("compress") as work:
        _quantize(source.path, path, reduce_range=bool(options["reduce_range"]))
        work.count(0, source.flops)
    profile = source.flops and inherited(source.flops, "parent, int8 ops", "INT8")
    return Made(path, graph.read(path), profile, source.network)


def _quantize(parent: Path, path: Path, *, reduce_range: bool) -> None:
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(parent, Path(scratch))
        quantize_dynamic(
            str(prepared), str(path), weight_type=QuantType.QInt8, per_channel=True,
            reduce_range=reduce_range,
        )  # fmt: skip
    save(onnx.load(path), path)
    left, done = const_products(path), graph.read(path).operations.get("MatMulInteger", 0)
    if left or not done:
        raise Refused(
            f"{left} products with weights stayed in FP32, {done} became INT8; "
            "nothing was registered."
        )
    graph.check_smaller("INT8", parent, path)


KIND = Kind(
    "int8_dynamic", "quantized", "file", make, {"reduce_range": REDUCE_RANGE}, few_parameters,
    refusal, libraries=("onnx", "onnxruntime"),
)  # fmt: skip
