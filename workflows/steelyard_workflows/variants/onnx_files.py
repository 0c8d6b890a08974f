"""ONNX files as quantizers want them, and as the registry wants them: one file, the same bytes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process


@contextmanager
def quiet() -> Iterator[None]:
    """The tools of onnxruntime log at the root and print on stdout, which is for data."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def prepare(parent: Path, scratch: Path) -> Path:
    """A copy with shapes inferred and constants folded, for a quantizer."""
    prepared = scratch / "prepared.onnx"
    quant_pre_process(str(parent), str(prepared))
    return prepared


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model as one file."""
    onnx.save_model(model, path, save_as_external_data=False)


def const_products(path: Path) -> int:
    """How many products of activations with weights a file computes in floating point."""
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return sum(
        node.op_type in ("MatMul", "Gemm") and node.input[1] in weights for node in graph.node
    )
