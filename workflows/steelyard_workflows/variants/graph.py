"""What an ONNX file says about itself: which operations, how many parameters, are they finite."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from steelyard.domain.errors import Refused

LARGEST_FILE = 2 * 2**30
"""ONNX in one file ends at 2 GiB (protobuf)."""
FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16})


@dataclass(frozen=True, slots=True)
class Graph:
    """Operations with their number, parameters, and whether activations are multiplied by each
    other, which is what attention does.
    """  # noqa: D205

    operations: Mapping[str, int]
    parameters: int
    attention: bool

    def has(self, *names: str) -> bool:
        """Whether one of these operations is there."""
        return any(self.operations.get(name) for name in names)


def read(path: Path) -> Graph:
    """The graph of a file.

    Raises:
        Refused: the file is larger than 2 GiB, or a weight is NaN or infinite.
    """
    check_size(path.stat().st_size)
    graph = onnx.load(path).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for tensor in weights.values():
        if tensor.data_type in FLOATS and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise Refused(
                f"Weight {tensor.name} holds NaN or infinity; nothing was made of it.",
                "The version's training diverged: train it again.",
            )
    return Graph(
        dict(Counter(node.op_type for node in graph.node)),
        sum(int(np.prod(t.dims)) for t in weights.values() if len(t.dims) > 0),
        any(n.op_type == "MatMul" and not weights.keys() & set(n.input) for n in graph.node),
    )


def check_size(size_bytes: int) -> None:
    """Refuse what does not fit into one file.

    Raises:
        Refused: it is larger than 2 GiB.
    """
    if size_bytes > LARGEST_FILE:
        raise Refused(
            f"The model takes {size_bytes:,} bytes; ONNX in one file ends at {LARGEST_FILE:,}.",
            "Larger models are neither registered nor compressed.",
        )


def check_smaller(kind: str, before: Path, after: Path) -> None:
    """Refuse a file that did not become smaller.

    Raises:
        Refused: it did not; both sizes are named.
    """
    was, now = before.stat().st_size, after.stat().st_size
    if now >= was:
        raise Refused(f"{kind} took {now} bytes, its parent {was}; nothing was registered.")
