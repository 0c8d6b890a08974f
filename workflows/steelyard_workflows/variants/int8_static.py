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

from steelyard.domain.compute import inherited
from steelyard.domain.errors import Refused
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source
from steelyard_workflows.variants.onnx_files import prepare, quiet, save
from steelyard_workflows.variants.processor import REDUCE_RANGE

BATCH = 32
COMPUTE = frozenset({"Conv", "Gemm", "MatMul"})
KEPT = frozenset({"InstanceNormalization", "GroupNormalization"})
"""Stay in FP32: the quantizer fails on weights that several of them share."""
FEW_PARAMETERS = 100_000
SPLITS = ("train", "validation", "test")


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


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the INT8 form of the source's file.

    Raises:
        Refused: a compute operation stayed in FP32, or the file did not become smaller.
    """
    path, rows = bench.into / "model.onnx", source.calibration
    with bench.watch.measure("compress") as work:
        quantize(source.path, rows, path, reduce_range=bool(options["reduce_range"]))
        work.count(len(rows), source.flops)
    profile = source.flops and inherited(source.flops, "parent, int8 ops", "INT8")
    return Made(path, graph.read(path), profile, source.network)


def quantize(
    parent: Path, rows: NDArray[Any], path: Path, *, reduce_range: bool = False
) -> None:  # fmt: skip
    """Write the INT8 form of a file, ranges from these rows; see ``make``."""
    name = onnx.load(parent).graph.input[0].name
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(parent, Path(scratch))
        kept = [n.name for n in onnx.load(prepared).graph.node if n.op_type in KEPT]
        quantize_static(
            str(prepared),
            str(path),
            Rows(name, rows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=kept,
        )
    save(onnx.load(path), path)
    _check(parent, path)


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
    graph.check_smaller("INT8", parent, path)


def few_parameters(found: graph.Graph) -> tuple[str, ...]:
    """INT8 has nothing to gain on a tiny network."""
    if found.parameters >= FEW_PARAMETERS:
        return ()
    return (
        f"INT8 hardly pays below {FEW_PARAMETERS:,} parameters, this model has "
        f"{found.parameters:,}: a call is mostly not arithmetic (measured .012 ms in FP32, "
        ".008 ms in INT8)",
    )


def doubts(found: graph.Graph) -> tuple[str, ...]:
    """Tiny networks, and transformers, whose few large activations stretch every range."""
    said = few_parameters(found)
    if found.attention:
        said += (
            "static INT8 costs a transformer accuracy (measured: cosine to the parent .925, "
            "with int8_dynamic .992)",
        )
    return said


CALIBRATION = {
    "calibration_rows": Option(512, "training rows that the ranges are from", 64, 8192),
    "calibration_split": Option("train", "where they are from", choices=SPLITS),
}
"""The options of every kind whose ranges are from training rows."""

KIND = Kind(
    "int8_static", "quantized", "file", make, {**CALIBRATION, "reduce_range": REDUCE_RANGE},
    doubts, calibrated=True, libraries=("onnx", "onnxruntime"),
)  # fmt: skip
