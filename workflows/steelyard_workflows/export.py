"""From a torch network to one ONNX file that needs neither torch nor our code, checked."""

import logging
import re
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_workflows.evaluation.runtime import opened

OPSET = 20
LARGEST_BATCH = 4096
CHECKED_BATCHES = (1, 3, 17)
INFERENCES = 2 * sum(CHECKED_BATCHES)
"""Items that an export computes, in torch and in onnxruntime; tracing computes none."""

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest where that is above 1.

Measured: about 1e-6.
"""

STACK_TRACE = "pkg.torch.onnx.stack_trace"

DATATYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.BOOL: "BOOL",
}
"""ONNX element types in the words of the Open Inference Protocol."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model file: what a version is made of."""

    path: Path
    sha256: str
    size_bytes: int
    signature: Signature


def export(network: nn.Module, rows: NDArray[Any], into: Path) -> Artifact:
    """Write ``model.onnx`` into a folder; any batch size, names "input" and "logits".

    ``rows`` are inputs to compare the file with the network on; none of them is stored.

    Raises:
        Refused: a weight is NaN or infinite, an operation has no ONNX form, the number of answers
            is not that of the rows, the file computes something else than the network, or it has
            another opset.
    """
    network.eval()
    _check_finite(network)
    path = into / "model.onnx"
    try:
        onnx.save_model(_trace(network, rows), path)
    except torch.onnx.OnnxExporterError as error:
        raise Refused(_unexportable(error), "Write the network without it.") from error
    _check_opset(path)
    _check_numbers(path, network, rows)
    return artifact(path)


def _check_finite(network: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Refused(
                f"Weight {name} holds NaN or infinity; nothing was registered.",
                "The training diverged: use a smaller learning rate, or clip_norm.",
            )


def _trace(network: nn.Module, rows: NDArray[Any]) -> onnx.ModelProto:
    # The exporter misses torchvision, which we do not use, and warns of its own internals.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        # Zeros, because an example is stored in traces; two rows, because one would freeze the
        # batch dimension.
        program = torch.onnx.export(
            network,
            (torch.from_numpy(np.zeros((2, *rows.shape[1:]), rows.dtype)),),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},),
            verbose=False,
        )
    assert program is not None
    return _without_places(program.model_proto)


def _unexportable(error: BaseException) -> str:
    """Which operation has no ONNX form, or what else stood in the way."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    named = re.search(r"op='([^']+)'", str(first))
    if named:
        return f"The network cannot be exported: {named[1]} has no ONNX form."
    return f"The network cannot be exported: {str(first).splitlines()[0]}"


def _without_places(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporter's notes of which line of which file an operation came from.

    They would make the bytes depend on the folder that the code is in.
    """
    for node in model.graph.node:
        kept = [one for one in node.metadata_props if one.key != STACK_TRACE]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model


def artifact(path: Path) -> Artifact:
    """What a model file is: digest, size, signature."""
    content = path.read_bytes()
    return Artifact(path, sha256(content).hexdigest(), len(content), signature_of(path))


def signature_of(path: Path) -> Signature:
    """Inputs and outputs of an ONNX file; a named dimension is variable, -1."""
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return Signature(
        tuple(_spec(value) for value in graph.input if value.name not in weights),
        tuple(_spec(value) for value in graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return TensorSpec(value.name, DATATYPES[tensor.elem_type], shape)


def _check_opset(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model)
    found = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if found.get("ai.onnx") != OPSET:
        raise Refused(f"The export has opset {found}, asked for was ai.onnx {OPSET}.")


def _check_numbers(path: Path, network: nn.Module, rows: NDArray[Any]) -> None:
    """With real rows: random ones may be far from what a network has learned to tell apart."""
    runtime = opened(path)
    for batch in CHECKED_BATCHES:
        some = np.resize(rows, (batch, *rows.shape[1:]))
        with torch.no_grad():
            expected = network(torch.from_numpy(some)).numpy()
        found = runtime.answer(some)
        if len(found) != batch:
            raise Refused(
                f"The network gives {len(found)} answers for {batch} rows; nothing was registered.",
                "A row has one answer, whatever stands in it and however many are asked at once.",
            )
        worst = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if not worst <= TOLERANCE:
            raise Refused(
                f"The export differs from the trained network by {worst:.2e} at batch {batch}.",
                f"Allowed is {TOLERANCE:.0e}; nothing was registered.",
            )
