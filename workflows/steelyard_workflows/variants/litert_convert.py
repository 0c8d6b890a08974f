"""Runs in the interpreter that has litert-torch: a network's operations become a .tflite file.

python litert_convert.py FOLDER     FOLDER has graph.json and weights.safetensors

It imports nothing of ours, because the two environments do not go together. Nothing that it reads
is pickled: operations are JSON, weights are safetensors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

Inputs = list[Any]
Attributes = dict[str, Any]


class Unknown(Exception):
    """An operation that has no counterpart here."""


def gemm(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """Matrix product and sum, either matrix transposed first."""
    a, b = (
        x.T if how.get(name) else x for x, name in zip(inputs, ("transA", "transB"), strict=False)
    )
    found: torch.Tensor = how.get("alpha", 1.0) * (a @ b)
    if len(inputs) > 2:
        found = found + how.get("beta", 1.0) * inputs[2]
    return found


def conv(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """Convolution; ONNX lists what is padded before and after each side."""
    padded, weight = pad(inputs[0], how, 0.0), inputs[1]
    call = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.dim() - 3]
    bias = inputs[2] if len(inputs) > 2 else None
    sides = weight.dim() - 2
    stride, dilation = how.get("strides", [1] * sides), how.get("dilations", [1] * sides)
    return call(padded, weight, bias, stride, 0, dilation, how.get("group", 1))


def max_pool(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """The largest of each window."""
    if how.get("ceil_mode"):
        raise Unknown("MaxPool with ceil_mode")
    padded, sides = pad(inputs[0], how, float("-inf")), len(how["kernel_shape"])
    call = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[sides - 1]
    return call(padded, how["kernel_shape"], how.get("strides", [1] * sides), 0,
                how.get("dilations", [1] * sides))  # fmt: skip


def pad(x: torch.Tensor, how: Attributes, value: float) -> torch.Tensor:
    """What is computed beyond the edges, by name or in numbers."""
    if how.get("auto_pad", "NOTSET") != "NOTSET":
        raise Unknown(f"auto_pad {how['auto_pad']}")
    pads = how.get("pads", [])
    half = len(pads) // 2
    ends = [n for side in reversed(range(half)) for n in (pads[side], pads[half + side])]
    return functional.pad(x, ends, value=value) if any(ends) else x


def normalized(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """Layer normalisation from an axis on."""
    x, scale = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    axis = how.get("axis", -1) % x.dim()
    return functional.layer_norm(x, x.shape[axis:], scale, bias, how.get("epsilon", 1e-5))


def instance_normalized(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """Each channel of a row by its own mean and variance."""
    x: torch.Tensor = inputs[0]
    scale, bias = (one.reshape(-1, *[1] * (x.dim() - 2)) for one in inputs[1:3])
    sides = list(range(2, x.dim()))
    away = x - x.mean(sides, keepdim=True)
    spread = (away * away).mean(sides, keepdim=True) + how.get("epsilon", 1e-5)
    found: torch.Tensor = away / spread.sqrt() * scale + bias
    return found


def reduced(call: Callable[..., torch.Tensor]) -> Callable[[Inputs, Attributes], torch.Tensor]:
    """A sum or mean over axes, which are an input."""

    def reduce(inputs: Inputs, how: Attributes) -> torch.Tensor:
        axes = [int(n) for n in inputs[1]] if len(inputs) > 1 else list(range(inputs[0].dim()))
        return call(inputs[0], axes, keepdim=bool(how.get("keepdims", 1)))

    return reduce


def reshaped(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """Another shape; a 0 keeps the dimension that was there."""
    x: torch.Tensor = inputs[0]
    shape = [int(n) for n in inputs[1]]
    kept = 0 if not how.get("allowzero") else None
    return x.reshape([x.shape[n] if size == kept else size for n, size in enumerate(shape)])


def unsqueezed(inputs: Inputs, _: Attributes) -> torch.Tensor:
    """Dimensions of 1 at these places of the result."""
    x: torch.Tensor = inputs[0]
    axes = [int(n) for n in inputs[1]]
    for axis in sorted(n % (x.dim() + len(axes)) for n in axes):
        x = x.unsqueeze(axis)
    return x


def squeezed(inputs: Inputs, _: Attributes) -> torch.Tensor:
    """Without these dimensions of 1, or without all of them."""
    x: torch.Tensor = inputs[0]
    return x.squeeze([int(n) for n in inputs[1]]) if len(inputs) > 1 else x.squeeze()


def sliced(inputs: Inputs, _: Attributes) -> torch.Tensor:
    """A range of each of these axes; its ends may lie beyond."""
    x: torch.Tensor = inputs[0]
    starts, ends = inputs[1:3]
    axes = inputs[3] if len(inputs) > 3 else range(len(starts))
    steps = inputs[4] if len(inputs) > 4 else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise Unknown("Slice backwards")
        size = x.shape[axis]
        first, last = (max(0, min(size, n + size if n < 0 else n)) for n in (start, end))
        x = x.narrow(axis, first, max(0, last - first))
        if step > 1:
            x = x.index_select(axis, torch.arange(0, x.shape[axis], step))
    return x


def gathered(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """Rows of a table; from the first axis, they are what an embedding looks up."""
    table, indices = inputs
    if how.get("axis", 0) == 0 and table.dim() == 2:
        return functional.embedding(indices, table)
    raise Unknown("Gather that looks up no rows")


def gelu(inputs: Inputs, how: Attributes) -> torch.Tensor:
    """The Gaussian error unit, exact or by a hyperbolic tangent."""
    return functional.gelu(inputs[0], approximate=how.get("approximate", "none"))


def plain(call: Callable[..., torch.Tensor]) -> Callable[[Inputs, Attributes], torch.Tensor]:
    """An operation element by element, or on whole matrices, without settings."""
    return lambda inputs, _: call(*(torch.tensor(x) if isinstance(x, list) else x for x in inputs))


TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
"""ONNX element types."""
OPERATIONS: dict[str, Callable[[Inputs, Attributes], torch.Tensor]] = {
    "Add": plain(torch.add), "Sub": plain(torch.sub), "Mul": plain(torch.mul),
    "Div": plain(torch.div), "Max": plain(torch.maximum), "Greater": plain(torch.gt),
    "MatMul": plain(torch.matmul), "Relu": plain(torch.relu), "Tanh": plain(torch.tanh),
    "Sigmoid": plain(torch.sigmoid), "Sqrt": plain(torch.sqrt), "Pow": plain(torch.pow),
    "Erf": plain(torch.erf), "Where": plain(torch.where), "Identity": plain(lambda x: x),
    "Gemm": gemm, "Conv": conv, "MaxPool": max_pool, "LayerNormalization": normalized,
    "InstanceNormalization": instance_normalized,
    "ReduceSum": reduced(torch.sum), "ReduceMean": reduced(torch.mean), "Reshape": reshaped,
    "Unsqueeze": unsqueezed, "Squeeze": squeezed, "Slice": sliced, "Gather": gathered,
    "Cast": lambda inputs, how: inputs[0].to(TYPES[how["to"]]),
    "Concat": lambda inputs, how: torch.cat(inputs, how["axis"]),
    "Flatten": lambda inputs, how: inputs[0].flatten(how.get("axis", 1)),
    "Gelu": gelu,
    "Softmax": lambda inputs, how: torch.softmax(inputs[0], how.get("axis", -1)),
    "Transpose": lambda inputs, how: inputs[0].permute(how["perm"]),
}  # fmt: skip


class Network(nn.Module):
    """The operations of ``graph.json`` in their order, on one row."""

    def __init__(self, graph: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._graph = graph
        self._names = {name: f"w{n}" for n, name in enumerate(sorted(weights))}
        for name, plain in self._names.items():
            self.register_buffer(plain, weights[name])
        unknown = {node["op"] for node in graph["nodes"]} - OPERATIONS.keys()
        if unknown:
            raise Unknown(", ".join(sorted(unknown)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The first output."""
        # Whole numbers stay lists: they are shapes and axes, which are no tensors in torch.
        values: dict[str, Any] = {**self._graph["numbers"], self._graph["input"]: x}
        values |= {name: getattr(self, plain) for name, plain in self._names.items()}
        for node in self._graph["nodes"]:
            inputs = [values[name] for name in node["inputs"]]
            values[node["output"]] = OPERATIONS[node["op"]](inputs, node["attributes"])
        found: torch.Tensor = values[self._graph["output"]]
        return found


def read(folder: Path) -> tuple[Network, torch.Tensor]:
    """The network in a folder, and a row of zeros that it takes."""
    graph = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    network = Network(graph, load_file(folder / "weights.safetensors"))
    return network.eval(), torch.zeros(graph["shape"], dtype=getattr(torch, graph["dtype"]))


def main(folder: Path) -> int:
    """Write ``model.tflite`` and who made it; the exit code is 3 when an operation is unknown."""
    import litert_torch

    try:
        network, row = read(folder)
        litert_torch.convert(network, (row,)).export(str(folder / "model.tflite"))
        (folder / "converter.txt").write_text(f"litert-torch {version('litert-torch')}")
    except Unknown as unknown:
        print(unknown)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
