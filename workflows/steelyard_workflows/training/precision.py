"""In which numbers a network computes. Weights, gradients and the loss stay fp32 in any case."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist

from steelyard_workflows.training.ending import Ended
from steelyard_workflows.workflow import Precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The block in which a forward pass is computed."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def unsupported(precision: Precision, device: torch.device) -> str | None:
    """Why a device cannot compute in a precision; None when it can.

    A device that would only emulate bf16, slower than fp32, counts as one that cannot.
    """
    if precision == "fp32":
        return None
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        name = torch.cuda.get_device_name(device)
    else:
        able = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        name = f"this processor ({torch.backends.cpu.get_cpu_capability()})"
    return None if able else f"train.precision: {name} does not compute in bf16; use fp32"


def require(precision: Precision, device: torch.device, world: int) -> None:
    """End the run on all workers when the device of one of them is not able.

    Raises:
        Ended: refused.
    """
    if precision == "fp32":
        return
    why = unsupported(precision, device)
    unable = torch.tensor(float(why is not None), device=device)
    if world > 1:
        dist.all_reduce(unable)
    if unable.item():
        other = f"train.precision: another worker does not compute in {precision}; use fp32"
        raise Ended("refused", why or other)
