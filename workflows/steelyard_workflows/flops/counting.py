"""Counts what a piece of torch code computes, and lists what nobody has a formula for.

torch's own ``FlopCounterMode`` takes its formulas from the same registry, but an operation
without one is silently 0 (pytorch #195460). Here it is named, and the count has a coverage.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steelyard_workflows.flops.formulas import formula_for
from steelyard_workflows.flops.free import is_free


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


def count(work: Callable[[], Any]) -> Count:
    """Count what ``work`` computes, under the settings that make operations visible.

    Math attention, no fast path, no mkldnn, nothing compiled: fused kernels then fall apart into
    matrix products, and what a fused backward computes a second time is not counted. Fused
    operations that are called all the same have formulas too.
    """
    result = Count()
    with _visible(), _Counter(result):
        work()
    return result


class _Counter(TorchDispatchMode):
    """Sorts every dispatched operation: counted, free, or unknown."""

    supports_higher_order_operators = True

    def __init__(self, result: Count) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's, untyped
        self._result = result

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            self._result.unknown.append(func.name())
            return func(*args, **kwargs)
        formula = formula_for(func._overloadpacket)
        if formula is None:
            with self:  # inference mode hands over composite operations whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None and _is_plain((args, kwargs)):
            self._result.flops += int(formula(*args, **kwargs, out_val=out))
            self._result.counted += 1
        elif formula is not None or not is_free(func):
            self._result.unknown.append(str(func))
        return out


def _is_plain(values: Any) -> bool:
    """Whether the formulas hold: they read dense shapes and count real numbers."""
    tensors = [v for v in tree_leaves(values) if isinstance(v, torch.Tensor)]
    return not any(t.layout != torch.strided or t.is_nested or t.is_complex() for t in tensors)


@contextmanager
def _visible() -> Iterator[None]:
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # mkldnn.flags sets an Intel GPU option in passing, and torch warns that there is none.
            warnings.filterwarnings("ignore", message="TF32 acceleration", category=UserWarning)
            with (
                sdpa_kernel(SDPBackend.MATH),
                torch.backends.mkldnn.flags(enabled=False),
                torch.compiler.set_stance("force_eager"),
            ):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
