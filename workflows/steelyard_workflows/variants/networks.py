"""A changed network becomes a file: checked, counted anew, exported, its weights kept beside it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows import flops
from steelyard_workflows.export import INFERENCES, export
from steelyard_workflows.trial import classes_of
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.kind import Bench, Made, Source

WEIGHTS = "weights.safetensors"
"""The network's weights, for retraining; what class they belong to is the workflow's recipe."""


def parameters(network: nn.Module) -> int:
    """Numbers that the network has learned."""
    return sum(p.numel() for p in network.parameters())


def copies(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and buffers, none of which shares memory: tied weights are one tensor in torch."""
    return {name: t.detach().clone().contiguous() for name, t in network.state_dict().items()}


def counted(network: nn.Module, source: Source) -> FlopsProfile:
    """FLOPs of one item of a network with other layers or widths than its parent."""
    classes = classes_of(network, source.dataset)
    return flops.profile_of(network, source.dataset.train, classes, source.recipe.loss)


def made(
    network: nn.Module, source: Source, bench: Bench, said: tuple[str, ...] = (),
    figures: Mapping[str, float] | None = None, files: tuple[Path, ...] = (),
) -> Made:  # fmt: skip
    """Export a network that a step is done with.

    Raises:
        Refused: a weight is NaN or infinite, the network takes more than one file can hold, or
            it cannot be exported.
    """
    _check_finite(network)
    graph.check_size(sum(t.numel() * t.element_size() for t in network.state_dict().values()))
    profile = counted(network, source)
    with bench.watch.measure("compress") as work:
        artifact = export(network, source.dataset.test.inputs, bench.into)
        work.count(INFERENCES, profile)
    kept = bench.into / WEIGHTS
    save_file(copies(network), kept)
    return Made(
        artifact.path, graph.read(artifact.path), profile, network, said,
        dict(figures or {}), (*files, kept),
    )  # fmt: skip


def _check_finite(network: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Refused(
                f"Weight {name} became NaN or infinite while the variant learned; "
                "nothing was registered.",
                "Use a smaller learning_rate.",
            )
