"""A network shared by the workers: a copy on each (DDP), or a part of it on each (FSDP2).

Both save the whole network under its own names, so that a checkpoint does not depend on how
many workers wrote it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

import ray.train.torch
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

Forward = Callable[[torch.Tensor], torch.Tensor]
Strategy = Literal["ddp", "fsdp2"]
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Shared(Protocol):
    """A network that several workers train together."""

    network: nn.Module
    """What is judged and saved."""
    forward: Forward
    """What a training step calls."""

    def exchanging(self, now: bool) -> AbstractContextManager[object]:
        """A block whose gradients are exchanged between the workers now, or only added up."""
        ...

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Network and optimiser, whole. All workers call it; only rank 0's answer counts."""
        ...

    def load(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Put back what ``state`` gave, on every worker."""
        ...


class Replicated:
    """Every worker holds the whole network; gradients are averaged (DDP)."""

    def __init__(self, network: nn.Module, device: torch.device, world: int) -> None:
        self.network = network.to(device)
        self._wrapped = ray.train.torch.prepare_model(network) if world > 1 else network
        self.forward: Forward = self._wrapped

    def exchanging(self, now: bool) -> AbstractContextManager[object]:
        """Without the exchange inside DDP's own block."""
        if now or not isinstance(self._wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self._wrapped.no_sync()

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The same on every worker."""
        return {"network": self.network.state_dict(), "optimizer": optimizer.state_dict()}

    def load(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Copy into the weights that are there."""
        self.network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])


class Sharded:
    """Every worker holds a part of each block, and gathers a block when it computes (FSDP2).

    Blocks are the members of lists and sequences that have parts themselves, as the layers of a
    transformer are; what is left makes the last one.
    """

    def __init__(self, network: nn.Module, device: torch.device, world: int) -> None:
        mesh = init_device_mesh(device.type, (world,))
        self.network = network.to(device)
        self.forward: Forward = self.network
        for block in [*reversed(list(_blocks(network))), network]:
            fully_shard(block, mesh=mesh)

    def exchanging(self, now: bool) -> AbstractContextManager[object]:
        """Sets the mode; FSDP keeps it until the next call."""
        assert isinstance(self.network, FSDPModule)
        self.network.set_requires_gradient_sync(now)
        return nullcontext()

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Gathered from all workers."""
        network, own = get_state_dict(self.network, optimizer, options=WHOLE)
        return {"network": network, "optimizer": own}

    def load(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Each worker takes its part."""
        set_state_dict(
            self.network, optimizer, model_state_dict=state["network"],
            optim_state_dict=state["optimizer"], options=StateDictOptions(full_state_dict=True),
        )  # fmt: skip


def share(
    network: nn.Module, strategy: Strategy, device: torch.device, world: int, *, compiled: bool
) -> Shared:
    """The network on this worker's device, wrapped as the workflow asks."""
    made = (Sharded if strategy == "fsdp2" else Replicated)(network, device, world)
    if compiled:
        made.forward = torch.compile(made.forward)
    return made


def compile_error() -> type[RuntimeError]:
    """What ``torch.compile`` raises at the first call; looked up late, for it takes seconds."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException


def send_buffers(network: nn.Module) -> None:
    """Rank 0's buffers, such as running means, on every worker: what is judged is what is saved."""
    for buffer in network.buffers():
        dist.broadcast(buffer, 0)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    for module in network.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            yield from (part for part in module if any(True for _ in part.children()))
