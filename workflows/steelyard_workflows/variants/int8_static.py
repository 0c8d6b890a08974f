"""INT8 weights and activations, ranges fixed beforehand from training rows (static, QDQ).

Unsigned activations by signed per-channel weights: with onnxruntime's default, signed
activations, a convolution stays as slow as in FP32.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from steelyard.domain.errors import Refused

BATCH = 32
COMPUTE = frozenset({"Conv", "Gemm", "MatMul"})
KEPT = frozenset({"InstanceNormalization", "GroupNormalization"})
"""Stay in FP32: the quantizer fails on weights that several of them share."""


class Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Calibration rows, a batch at a time."""

    def __init__(self, name: str, rows: NDArray[Any]) -> None:
        self._batches: Iterator[NDArray[Any]] = iter(
            [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        )
        self._name = name

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next feed, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def make(parent: Path, calibration: NDArray[Any], into: Path) -> Path:
    """Write the INT8 form of ``parent`` as ``model.onnx`` into a folder.

    Raises:
        Refused: a compute operation stayed in FP32, or the file did not become smaller.
    """
    path = into / "model.onnx"
    name = onnx.load(parent).graph.input[0].name
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(parent), str(prepared))
        kept = [n.name for n in onnx.load(prepared).graph.node if n.op_type in KEPT]
        quantize_static(
            str(prepared),
            str(path),
            Rows(name, calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=kept,
        )
    onnx.save_model(onnx.load(path), path)
    _check(parent, path)
    return path


def quantized_operations(path: Path) -> tuple[int, int]:
    """How many compute operations read dequantized weights, and how many there are."""
    graph = onnx.load(path).graph
    dequantized = {out for n in graph.node if n.op_type == "DequantizeLinear" for out in n.output}
    compute = [node for node in graph.node if node.op_type in COMPUTE]
    done = [n for n in compute if n.input[0] in dequantized and n.input[1] in dequantized]
    return len(done), len(compute)


def _check(parent: Path, path: Path) -> None:
    """The quantizer skips what it does not know without a word."""
    done, total = quantized_operations(path)
    if not total or done < total:
        raise Refused(
            f"Only {done} of {total} compute operations became INT8; nothing was registered."
        )
    before, after = parent.stat().st_size, path.stat().st_size
    if after >= before:
        raise Refused(f"INT8 took {after} bytes, its parent {before}; nothing was registered.")
