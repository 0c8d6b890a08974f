"""A network's weights as a file that replicas load in torch: it names its architecture."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from steelyard.bootstrap.architectures import ARCHITECTURES, architecture_of
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import TORCH, Signature
from steelyard.domain.safetensors_file import Precision, about
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.variants.networks import copies

FILE = "model.safetensors"


def write(network: nn.Module, signature: Signature, into: Path, computes_in: Precision) -> Path:
    """Write ``model.safetensors`` into a folder, and open it as a replica does.

    A network whose class takes hyper-parameters tells them by an attribute of that name.

    Raises:
        Refused: the network's class is not registered, or makes other tensors from the
            hyper-parameters than the network has: it was made smaller.
    """
    name = architecture_of(type(network))
    if name is None:
        raise Refused(
            f"{type(network).__qualname__} is no registered architecture, so no replica could "
            "build it.",
            f"Give your distribution an entry point of {ARCHITECTURES} that names the class; "
            "ONNX needs none.",
        )
    path, tensors = into / FILE, copies(network)
    if computes_in == "BF16":
        tensors = {key: t.to(torch.bfloat16) if t.is_floating_point() else t
                   for key, t in tensors.items()}  # fmt: skip
    told = getattr(network, "hyperparameters", {})
    save_file(tensors, path, about(name, told, signature, computes_in))
    opened(path, TORCH)
    return path
