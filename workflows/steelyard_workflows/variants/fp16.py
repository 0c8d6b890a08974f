"""Weights in half the bytes; computed in FP32 on a CPU, so the file is all that gets smaller."""

import warnings

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from steelyard.domain.compute import inherited
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.onnx_files import quiet, save

SAID = "size only: fp16 halves the file and is not faster on a CPU (measured 1.0 x)"


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the FP16 form; inputs and outputs stay as they are.

    Raises:
        Refused: the file did not become smaller, or a weight is too large for FP16.
    """
    path = bench.into / "model.onnx"
    with bench.watch.measure("compress") as work, quiet(), warnings.catch_warnings():
        # Of weights nearer to 0 than FP16 can say, one warning a tensor.
        warnings.filterwarnings("ignore", message="the float32 number .* will be truncated")
        save(convert_float_to_float16(onnx.load(source.path), keep_io_types=True), path)
        graph.check_smaller("FP16", source.path, path)
        work.count(0, source.flops)
    profile = source.flops and inherited(source.flops, "parent, fp16 ops", "FP16")
    return Made(path, graph.read(path), profile, source.network, said=(SAID,))


KIND = Kind(
    "fp16", "quantized", "file", make, doubts=lambda _: (SAID,), libraries=("onnx", "onnxruntime")
)  # fmt: skip
