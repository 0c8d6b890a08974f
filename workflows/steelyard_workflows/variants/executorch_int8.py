"""The same program in INT8: weights per channel, activations with ranges from training rows."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import fx, nn

from steelyard.domain.compute import inherited
from steelyard.domain.errors import Refused
from steelyard_workflows.variants import executorch, graph
from steelyard_workflows.variants.executorch import FILE, PACKAGE, SAID, lowered, traced, unwarned
from steelyard_workflows.variants.extras import absent
from steelyard_workflows.variants.int8_static import CALIBRATION
from steelyard_workflows.variants.int8_static import doubts as int8_doubts
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source

COMPUTE = frozenset({"aten.linear.default", "aten.conv1d.default", "aten.conv2d.default"})


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Quantize and lower the network that earlier steps left.

    Raises:
        Refused: it cannot be lowered, a layer stayed in FP32, or the file did not become smaller.
    """
    path, rows = bench.into / FILE, source.calibration
    with bench.watch.measure("compress") as work:
        path.write_bytes(lowered(quantized(source.present(), rows), rows))
        graph.check_smaller("INT8", source.path, path)
        work.count(len(rows), source.flops)
    profile = source.flops and inherited(source.flops, "parent, int8 ops", "INT8")
    return Made(path, source.graph, profile, source.network, (SAID,))


def quantized(network: nn.Module, rows: NDArray[Any]) -> nn.Module:
    """The traced network with INT8 weights and activations.

    Raises:
        Refused: it cannot be traced, or a linear or convolutional layer stayed in FP32.
    """
    plain = traced(network, rows)
    with unwarned(), torch.no_grad():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = XNNPACKQuantizer()
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = prepare_pt2e(plain, quantizer)
        for n in range(len(rows)):
            prepared(torch.from_numpy(rows[n : n + 1]))
        found: fx.GraphModule = convert_pt2e(prepared)
    check_quantized(found)
    return found


def check_quantized(network: fx.GraphModule) -> None:
    """The quantizer leaves out what it does not know without a word.

    Raises:
        Refused: a linear or convolutional layer reads weights in FP32, or there is none.
    """
    compute = [node for node in network.graph.nodes if str(node.target) in COMPUTE]
    done = [node for node in compute if "dequantize" in str(node.args[1])]
    if not done or len(done) < len(compute):
        raise Refused(
            f"Only {len(done)} of {len(compute)} layers became INT8; nothing was registered."
        )


KIND = Kind(
    "executorch_int8", "quantized", "file", make, CALIBRATION,
    lambda found: (SAID, *int8_doubts(found)), refusal=lambda _: absent(PACKAGE, "edge"),
    calibrated=True, libraries=(PACKAGE, "torch", "torchao"), weights=True,
    runtime=executorch.run, suffix=".pte",
)  # fmt: skip
