"""Weights and arithmetic in bfloat16, where the hardware computes in it; in and out stay FP32.

It is not an ONNX file: onnxruntime has no bfloat16 kernels for CPUs. The weights are safetensors
that replicas load in torch, so the network is a registered architecture.
"""

from dataclasses import replace

import torch

from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.domain.compute import inherited
from steelyard.domain.model_version import TORCH
from steelyard_workflows.evaluation.runtime import Runtime, opened
from steelyard_workflows.variants import processor
from steelyard_workflows.variants.graph import Graph, check_smaller
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.torch_file import write

ABLE = frozenset({"avx512_bf16", "amx_bf16"})


def run(source: Source) -> Runtime:
    """The file in torch, as a replica opens it."""
    return replace(opened(source.path, TORCH), datatype="bf16")


def refusal(_: Graph) -> str | None:
    """Emulated bfloat16 is slower than FP32."""
    name = hardware_profile().get("cpu", "this processor")
    return unable(processor.flags(), name, torch.cuda.is_available())


def unable(flags: frozenset[str], name: str, gpu: bool) -> str | None:
    """Why hardware does not compute in bfloat16; None when it does.

    >>> unable(frozenset({"avx2"}), "EPYC", gpu=False)
    'bf16 needs a CPU with amx_bf16 or avx512_bf16, or a GPU; EPYC has neither'
    """
    if gpu or flags & ABLE:
        return None
    return f"bf16 needs a CPU with {' or '.join(sorted(ABLE))}, or a GPU; {name} has neither"


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the weights as bfloat16.

    Raises:
        Refused: the network is no registered architecture, or the file did not become smaller.
    """
    with bench.watch.measure("compress") as work:
        path = write(source.present(), source.version.signature, bench.into, "BF16")
        work.count(0, source.flops)
    check_smaller("BF16", source.path, path)
    profile = source.flops and inherited(source.flops, "parent, bf16 ops", "BF16")
    return Made(path, source.graph, profile, source.network)


KIND = Kind(
    "bf16", "quantized", "file", make, refusal=refusal,
    libraries=("safetensors", "torch"), weights=True, runtime=run, suffix=".safetensors",
)  # fmt: skip
