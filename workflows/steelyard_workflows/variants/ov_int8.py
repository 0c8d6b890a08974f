"""INT8 for OpenVINO: NNCF chooses the ranges, and evens out what attention makes large.

The file is ONNX like every other, so there is one format in the registry: as fast as OpenVINO's own
format within a tenth. onnxruntime runs it too, a transformer's more slowly.
"""

import io
import logging
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from steelyard.bootstrap.runtimes import session_class
from steelyard.domain.compute import inherited
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import OPENVINO
from steelyard_workflows.evaluation.runtime import Runtime, opened
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.extras import absent
from steelyard_workflows.variants.int8_static import CALIBRATION, few_parameters
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.onnx_files import save
from steelyard_workflows.variants.processor import VNNI, flags

ABLE = VNNI | {"i8mm"}
"""Of these a processor has one that multiplies INT8 faster than FP32."""
WEIGHED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def refusal(_: graph.Graph) -> str | None:
    """Both libraries are of an extra."""
    return absent("nncf", OPENVINO) or absent(OPENVINO, OPENVINO)


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the INT8 form of the source's file.

    Raises:
        Refused: a layer stayed in FP32, or the file did not become smaller.
    """
    path = bench.into / "model.onnx"
    with bench.watch.measure("compress") as work:
        answered = quantize(source.path, source.calibration, path, source.graph.attention)
        work.count(answered, source.flops)
    profile = source.flops and inherited(source.flops, "parent, int8 ops", "INT8")
    return Made(path, graph.read(path), profile, source.network)


def quantize(parent: Path, rows: NDArray[Any], path: Path, attention: bool) -> int:
    """Write the INT8 form of a file, see ``make``; how many rows were answered for it."""
    model, answered = onnx.load(parent), 0
    name = model.graph.input[0].name

    def feed(row: int) -> dict[str, NDArray[Any]]:
        nonlocal answered
        answered += 1
        return {name: rows[row : row + 1]}

    session_class(OPENVINO)  # first: without telemetry, which NNCF then goes without as well
    with redirect_stdout(io.StringIO()):  # its progress; stdout is for data
        import nncf

        nncf.set_log_level(logging.ERROR)
        found = nncf.quantize(
            model, nncf.Dataset(range(len(rows)), feed), subset_size=len(rows),
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
            # In ONNX it makes biases worse: a ResNet's agreement .947 with it, .983 without.
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )  # fmt: skip
    save(found, path)
    _check(parent, path)
    return answered


def left_in_fp32(path: Path) -> int:
    """How many layers of a file compute with weights that are not dequantized ones."""
    found = onnx.load(path).graph
    weights = {tensor.name for tensor in found.initializer}
    return sum(node.op_type in WEIGHED and node.input[1] in weights for node in found.node)


def _check(parent: Path, path: Path) -> None:
    left, done = left_in_fp32(path), graph.read(path).operations.get("QuantizeLinear", 0)
    if left or not done:
        raise Refused(
            f"{left} layers stayed in FP32, {done} activations became INT8; nothing was registered."
        )
    graph.check_smaller("INT8", parent, path)


def run(source: Source) -> Runtime:
    """The file in OpenVINO, as a replica opens it."""
    return opened(source.path, OPENVINO)


def doubts(found: graph.Graph) -> tuple[str, ...]:
    """Tiny networks, and transformers on processors without products of INT8."""
    said = few_parameters(found)
    if found.attention:
        said += unaided(flags())
    return said


def unaided(found: frozenset[str]) -> tuple[str, ...]:
    """Why a transformer does not become faster on a processor; empty where it should.

    >>> unaided(frozenset({"avx2", "avx512_vnni"}))
    ()
    """
    if found & ABLE:
        return ()
    *most, last = sorted(ABLE)
    return (
        f"a transformer needs {', '.join(most)} or {last} to be faster in INT8; measured in "
        "OpenVINO without: 0.8 x of FP32",
    )


KIND = Kind(
    "ov_int8", "quantized", "file", make, CALIBRATION, doubts, refusal=refusal,
    calibrated=True, libraries=("nncf", "onnx", "onnxruntime", OPENVINO), runtime=run,
)  # fmt: skip
