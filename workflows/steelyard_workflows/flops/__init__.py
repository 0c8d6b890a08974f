"""FLOPs of one item, counted once for a network and an input; unknown unless all was counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import nn
from torch.func import functional_call

from steelyard.domain.compute import AnalyticFlops, estimated
from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows.data import Split
from steelyard_workflows.flops.counting import Count, count
from steelyard_workflows.recipe import Loss, cross_entropy

__all__ = ["METHOD", "PER_CALL", "Count", "count", "profile", "profile_of"]

METHOD = "operations counted, 1 MAC = 2 FLOP"
BATCHES = (2, 4)
"""Counted twice, because only work that doubles with the batch has a figure for one item."""

PER_CALL = "work that does not grow with the batch"

DATATYPES: dict[torch.dtype, str] = {
    torch.float64: "FP64",
    torch.float32: "FP32",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.int64: "INT64",
    torch.int32: "INT32",
    torch.uint8: "UINT8",
}
"""torch's types in the words of the Open Inference Protocol."""


def profile(
    model: nn.Module,
    item_shape: tuple[int, ...],
    classes: int,
    *,
    dtype: torch.dtype = torch.float32,
    label_shape: tuple[int, ...] = (),
    loss: Loss = cross_entropy,
    analytic: AnalyticFlops | None = None,
) -> FlopsProfile:
    """Forward and train-step FLOPs of one item; ``analytic`` gives both where one is unknown.

    ``item_shape`` and ``dtype`` are the input's, ``label_shape`` the labels' of one item, all
    without the batch dimension. Copies of the weights are counted with, so weights, statistics,
    gradients and random state stay as they are. Forward is counted in evaluation mode, the step
    in training mode.
    The optimiser's own arithmetic is elementwise and therefore 0.
    """
    rows = _Rows(item_shape, dtype, label_shape, classes)
    forward, step = _count_both(model, rows, loss)
    once, both = _per_item(*forward), _per_item(*step)
    every = (*forward, *step)
    coverage = min(one.coverage for one in every)
    unsupported = sorted({name for one in every for name in one.unknown})
    incomplete = once is None or both is None
    if incomplete and coverage == 1:
        unsupported = [PER_CALL]
    counted = FlopsProfile(
        once,
        both,
        METHOD,
        coverage,
        found="unknown" if once is None and both is None else "counted",
        signature=f"{DATATYPES.get(dtype, str(dtype))}[{','.join(map(str, (-1, *item_shape)))}]",
        datatype=_datatype(model),
        unsupported=tuple(unsupported),
        torch_version=str(torch.__version__),
    )
    return estimated(counted, analytic) if incomplete and analytic else counted


def profile_of(
    model: nn.Module, split: Split, classes: int, loss: Loss = cross_entropy
) -> FlopsProfile:  # fmt: skip
    """The profile for rows like those of a split, whatever their type and their labels' shape."""
    return profile(
        model,
        split.inputs.shape[1:],
        classes,
        dtype=torch.from_numpy(split.inputs[:1]).dtype,
        label_shape=split.labels.shape[1:],
        loss=loss,
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the rows are like that are counted with."""

    item_shape: tuple[int, ...]
    dtype: torch.dtype
    label_shape: tuple[int, ...]
    classes: int

    def inputs(self, rows: int) -> torch.Tensor:
        return torch.zeros((rows, *self.item_shape), dtype=self.dtype)

    def labels(self, rows: int) -> torch.Tensor:
        count = rows * prod(self.label_shape)
        return (torch.arange(count) % self.classes).view(rows, *self.label_shape)


def _count_both(
    model: nn.Module, like: _Rows, loss: Loss
) -> tuple[list[Count], list[Count]]:  # fmt: skip
    """Forward and step, each for every batch size."""
    forward, step = [], []
    with torch.random.fork_rng(devices=[]), _modes_kept(model):
        for rows in BATCHES:
            inputs, labels = like.inputs(rows), like.labels(rows)
            forward.append(count(partial(_forward, model.eval(), inputs)))
            step.append(count(partial(_step, model.train(), inputs, labels, loss)))
    return forward, step


def _forward(model: nn.Module, inputs: torch.Tensor) -> None:
    with torch.no_grad():
        functional_call(model, _copies(model), inputs)


def _step(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, loss: Loss) -> None:
    logits = functional_call(model, _copies(model), inputs)
    loss(logits, labels).backward()


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of parameters and buffers; modules that hold computed weights cannot be copied."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {n: t.detach().clone().requires_grad_(t.requires_grad) for n, t in tensors.items()}


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _per_item(small: Count, large: Count) -> int | None:
    few, many = BATCHES
    proportional = small.flops * many == large.flops * few and not small.flops % few
    if min(small.coverage, large.coverage) < 1 or not proportional:
        return None
    return small.flops // few


def _datatype(model: nn.Module) -> str | None:
    """The one type that the weights have; None when they have several."""
    found = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return DATATYPES.get(found.pop()) if len(found) == 1 else None
