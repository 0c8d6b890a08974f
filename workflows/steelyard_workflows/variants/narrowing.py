"""Channels and layers taken out of a trained network, the least important first."""

import warnings

import torch
import torch_pruning
from torch import nn

from steelyard.domain.errors import Refused
from steelyard_workflows.variants.kind import Source
from steelyard_workflows.variants.networks import parameters

WIDE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def narrow(network: nn.Module, source: Source, share: float, round_to: int) -> None:
    """Take ``share`` of the channels out of every layer but the last, by the weights' norm.

    Widths stay multiples of ``round_to``: kernels work on 8 or 16 channels at a time.

    Raises:
        Refused: the layers depend on each other in a way that does not let channels go, or none
            could go.
    """
    before = parameters(network)
    example = _example(source)
    wanted = network.eval()(example).shape
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Unwrapped parameters")
            _prune(network, example, share, round_to)
        found = network(example).shape
    except Refused:
        raise
    except Exception as error:  # whatever the dependency graph of a user's network leads to
        raise _refused(source, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    empty = [name for name, p in network.named_parameters() if not p.numel()]
    if found != wanted or empty:
        raise _refused(source, f"it would give {list(found)} for {list(wanted)}")
    if parameters(network) >= before:
        raise Refused(
            f"No channel of {source.version.name} could go: its layers are too narrow for "
            f"multiples of {round_to}.",
            "Use a smaller round_to or a larger ratio.",
        )


def _prune(network: nn.Module, example: torch.Tensor, share: float, round_to: int) -> None:
    # Channels of a grouped normalisation go in step, so many of each group at once.
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    groups = max((norm.num_groups for norm in norms), default=1)
    # The two mappings, because torch-pruning would fill its own defaults, for all later networks.
    torch_pruning.pruner.BasePruner(
        network, example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share, ignored_layers=[_last(network, example)],
        round_to=max(1, round_to // groups), in_channel_groups={}, out_channel_groups={},
    ).step()  # fmt: skip


def _last(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """The layer that gives the logits; its width is the number of classes."""
    called: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in network.modules()
        if isinstance(module, WIDE)
    ]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    if not called:
        raise Refused("The network has neither linear nor convolutional layers to make narrower.")
    return called[-1]


def shorten(network: nn.Module, source: Source, keep: int) -> None:
    """Keep so many of the network's equal layers, evenly spread, the first and the last among them.

    Raises:
        Refused: there is no list of equal layers, or it has no more than ``keep``.
    """
    name, layers = stack(network)
    if layers is None or not 0 < keep < len(layers):
        found = "no list of equal layers" if layers is None else f"{len(layers)} of them in {name}"
        raise Refused(
            f"{source.version.name} cannot keep {keep} of its layers: it has {found}.",
            "Use pruned_structured for networks without equal layers.",
        )
    last = len(layers) - 1
    kept = [round(n * last / max(1, keep - 1)) for n in range(keep)]
    owner, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(owner), attribute, nn.ModuleList(layers[n] for n in kept))


def stack(network: nn.Module) -> tuple[str, nn.ModuleList | None]:
    """The longest list of layers with the same shapes, as transformers have one; else None.

    Only a list can be shortened without the code around it noticing.
    """
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 1 and _equal(module)
    ]
    return max(found, key=lambda one: len(one[1])) if found else ("", None)


def half(network: nn.Module) -> int:
    """Half of the network's equal layers, at least one; 0 when it has none."""
    _, layers = stack(network)
    return 0 if layers is None else max(1, len(layers) // 2)


def _equal(layers: nn.ModuleList) -> bool:
    shapes = [[p.shape for p in layer.parameters()] for layer in layers]
    return bool(shapes[0]) and all(one == shapes[0] for one in shapes)


def _example(source: Source) -> torch.Tensor:
    inputs = source.dataset.train.inputs
    return torch.zeros((2, *inputs.shape[1:]), dtype=torch.from_numpy(inputs[:1]).dtype)


def _refused(source: Source, why: str) -> Refused:
    return Refused(
        f"Channels of {source.version.name} cannot be taken out: {why}.",
        "Use layer_drop or layer_drop+distilled for networks with a list of equal layers.",
    )
