"""Weights and arithmetic in bfloat16, where the hardware computes in it; in and out stay FP32.

It is not an ONNX file: onnxruntime has no bfloat16 kernels for CPUs. The weights are kept as
safetensors, and the network's class is the workflow's recipe. No replica serves it.
"""

from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from steelyard.bootstrap import hardware_profile
from steelyard.domain.compute import inherited
from steelyard.domain.errors import Refused
from steelyard_workflows.evaluation.torch_runtime import TorchRuntime
from steelyard_workflows.variants import processor
from steelyard_workflows.variants.graph import Graph, check_smaller
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.networks import copies

ABLE = frozenset({"avx512_bf16", "amx_bf16"})
SAID = "not served by this runtime: bf16 is safetensors for torch, replicas load ONNX"


class Wrapped(nn.Module):
    """A network whose weights are bfloat16, with the inputs and outputs that it had before."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the network answers, as FP32."""
        cast = x.to(torch.bfloat16) if x.is_floating_point() else x
        answer: torch.Tensor = self.network(cast).float()
        return answer


def runtime(source: Source) -> TorchRuntime:
    """What is registered is what runs: the weights are read from the file."""
    network = source.network
    if network is None:
        network = source.recipe.build(source.workflow)
    plain = network.network if isinstance(network, Wrapped) else network
    return TorchRuntime(load(plain, source.path).eval(), "bf16")


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
        Refused: a weight became infinite, or the file did not become smaller.
    """
    path = bench.into / "model.safetensors"
    with bench.watch.measure("compress") as work:
        wrapped = Wrapped(source.present())
        save_file(copies(wrapped.network), path)
        work.count(0, source.flops)
    check_smaller("BF16", source.path, path)
    profile = source.flops and inherited(source.flops, "parent, bf16 ops", "BF16")
    return Made(path, source.graph, profile, wrapped, (SAID,))


def load(network: nn.Module, path: Any) -> Wrapped:
    """The wrapped network with the weights of a file.

    Raises:
        Refused: the file's weights are of another network.
    """
    wrapped = Wrapped(network)
    try:
        wrapped.network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise Refused(f"{path} holds weights of another network: {error}") from error
    return wrapped


KIND = Kind(
    "bf16", "quantized", "file", make, doubts=lambda _: (SAID,), refusal=refusal,
    libraries=("safetensors", "torch"), weights=True, runtime=runtime,
    suffix=".safetensors",
)  # fmt: skip
