"""FLOPs of one item, counted once per network; unknown unless every compute operation counted.

``FlopCounterMode`` silently counts 0 for operations it has no formula for, so a second dispatch
mode lists them. Settings: math attention, no fast path, no mkldnn, as measured for this version
of torch. Elementwise operations, norms, softmax, pooling and look-ups are 0 by design.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    register_flop_formula,
    sdpa_flop_count,
)

from steelyard.domain.model_version import FlopsProfile

METHOD = "torch FlopCounterMode, 1 MAC = 2 FLOP"
BATCH = 32

FREE = frozenset({
    "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward",
    "_has_compatible_shallow_copy_type", "_log_softmax", "_log_softmax_backward_data",
    "_native_batch_norm_legit", "_safe_softmax", "_softmax", "_softmax_backward_data",
    "_to_copy", "_unsafe_view", "arange", "argmax", "avg_pool2d", "avg_pool2d_backward",
    "bernoulli", "bernoulli_", "cat", "clone", "constant_pad_nd", "copy_", "detach",
    "embedding", "embedding_dense_backward", "empty", "empty_like", "fill_", "full",
    "full_like", "gather", "index", "index_select", "lift_fresh", "max_pool2d_with_indices",
    "max_pool2d_with_indices_backward", "native_batch_norm", "native_batch_norm_backward",
    "native_dropout", "native_dropout_backward", "native_layer_norm",
    "native_layer_norm_backward", "new_empty", "new_ones", "new_zeros", "nll_loss_backward",
    "nll_loss_forward", "ones", "ones_like", "scalar_tensor", "scatter", "stack",
    "unsafe_split", "zero_", "zeros", "zeros_like",
})  # fmt: skip
"""Operations that move, look up, normalise or pool: 0 FLOPs by the convention above."""


def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
if _CPU_ATTENTION not in flop_registry:
    register_flop_formula(_CPU_ATTENTION)(_cpu_attention)


@dataclass
class Count:
    """FLOPs of one call and the compute operations that nobody has a formula for."""

    flops: int = 0
    counted: int = 0
    unknown: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of the compute operations that were counted; 0 when there were none."""
        total = self.counted + len(self.unknown)
        return self.counted / total if total else 0.0


class _Spy(TorchDispatchMode):
    """Sorts every dispatched operation: counted, free, or unknown."""

    def __init__(self, count: Count) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's, untyped
        self._count = count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        if func._overloadpacket in flop_registry:
            self._count.counted += 1
        elif not _is_free(func):
            self._count.unknown.append(str(func))
        return func(*args, **(kwargs or {}))


def _is_free(func: Any) -> bool:
    if func.is_view or torch.Tag.pointwise in func.tags or torch.Tag.reduction in func.tags:
        return True
    return func.namespace in ("aten", "prim") and func._overloadpacket.__name__ in FREE


def count(work: Callable[[], Any]) -> Count:
    """Count what ``work`` computes, under the settings that make operations visible."""
    result = Count()
    with _visible(), FlopCounterMode(display=False) as counter, _Spy(result):
        work()
    result.flops = counter.get_total_flops()
    return result


@contextmanager
def _visible() -> Iterator[None]:
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # mkldnn.flags sets an Intel GPU option in passing, and torch warns that there is none.
            warnings.filterwarnings("ignore", message="TF32 acceleration", category=UserWarning)
            with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def profile(model: nn.Module, item_shape: tuple[int, ...], classes: int) -> FlopsProfile:
    """Forward and train-step FLOPs of one item; None where coverage is below 1.

    ``item_shape`` is the input without its batch dimension. The loss is cross entropy.
    """
    inputs = torch.zeros((BATCH, *item_shape))
    labels = torch.arange(BATCH) % classes

    def forward() -> None:
        with torch.no_grad():
            model(inputs)

    def step() -> None:
        nn.functional.cross_entropy(model(inputs), labels).backward()

    try:
        once, both = count(forward), count(step)
    finally:
        model.zero_grad(set_to_none=True)
    coverage = min(once.coverage, both.coverage)
    return FlopsProfile(_per_item(once), _per_item(both), METHOD, coverage)


def _per_item(result: Count) -> int | None:
    if result.coverage < 1 or result.flops % BATCH:
        return None
    return result.flops // BATCH
