"""FLOPs of one item, counted once for a network and an input; unknown unless all was counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.func import functional_call

from steelyard.domain.compute import AnalyticFlops, estimated
from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows.flops.counting import Count, count

__all__ = ["METHOD", "PER_CALL", "Count", "count", "profile"]

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
    analytic: AnalyticFlops | None = None,
) -> FlopsProfile:
    """Forward and train-step FLOPs of one item; ``analytic`` gives both where one is unknown.

    ``item_shape`` and ``dtype`` are the input's, without its batch dimension; the loss is cross
    entropy. Copies of the weights are counted with, so weights, statistics, gradients and random
    state stay as they are. Forward is counted in evaluation mode, the step in training mode.
    The optimiser's own arithmetic is elementwise and therefore 0.
    """
    forward, step = _count_both(model, item_shape, classes, dtype)
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


def _count_both(
    model: nn.Module, item_shape: tuple[int, ...], classes: int, dtype: torch.dtype
) -> tuple[list[Count], list[Count]]:
    """Forward and step, each for every batch size."""
    forward, step = [], []
    with torch.random.fork_rng(devices=[]), _modes_kept(model):
        for rows in BATCHES:
            inputs = torch.zeros((rows, *item_shape), dtype=dtype)
            labels = torch.arange(rows) % classes
            forward.append(count(partial(_forward, model.eval(), inputs)))
            step.append(count(partial(_step, model.train(), inputs, labels)))
    return forward, step


def _forward(model: nn.Module, inputs: torch.Tensor) -> None:
    with torch.no_grad():
        functional_call(model, _copies(model), inputs)


def _step(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    logits = functional_call(model, _copies(model), inputs)
    nn.functional.cross_entropy(logits, labels).backward()


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
