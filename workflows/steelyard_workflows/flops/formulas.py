"""FLOPs of single torch operations: torch's formulas, and those that torch does not have.

1 multiply-add = 2 FLOP. Each formula is called with the operation's own arguments and its result
as ``out_val``. A backward pass counts what the gradients need, not what a kernel recomputes.
Linear algebra counts as in Golub & Van Loan, Matrix Computations, chapters 3 and 4.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

Formula = Callable[..., int]
aten, quantized = torch.ops.aten, torch.ops.quantized


def formula_for(packet: Any) -> Formula | None:
    """The formula of an operation, ours first; one in place counts like one that is not."""
    found = FORMULAS.get(packet) or flop_registry.get(packet)
    name = packet.__name__
    if found is None and name.endswith("_") and hasattr(aten, name.removesuffix("_")):
        plain = getattr(aten, name.removesuffix("_"))
        found = FORMULAS.get(plain) or flop_registry.get(plain)
    return found


def _dot(left: Any, right: Any, **_: Any) -> int:
    return 2 * int(left.numel())


def _matrix_vector(matrix: Any, vector: Any, **_: Any) -> int:
    return 2 * int(matrix.numel())


def _add_matrix_vector(start: Any, matrix: Any, vector: Any, **_: Any) -> int:
    return 2 * int(matrix.numel())


def _matrix(left: Any, right: Any, *_: Any, **__: Any) -> int:
    """[m, k] by [k, n], or by its transpose [n, k] in packed form: the result has m·n numbers."""
    return 2 * int(left.shape[0]) * int(right.numel())


def _add_matrix(start: Any, left: Any, right: Any, *_: Any, **__: Any) -> int:
    return _matrix(left, right)


def _add_batches(start: Any, left: Any, right: Any, **_: Any) -> int:
    return 2 * int(left.numel()) * int(right.shape[-1])


def _packed_linear(inputs: Any, weights: Any, *_: Any, out_val: Any, **__: Any) -> int:
    """The weights are opaque, so inner size from the input and the rest from the result."""
    return 2 * int(inputs.shape[-1]) * int(out_val.numel())


def _rows(tensor: Any) -> int:
    """How many vectors a tensor holds: all dimensions but the last."""
    return int(prod(tensor.shape[:-1]))


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scores and weighted values; a causal mask saves nothing, shared heads neither."""
    return 2 * _rows(query) * int(key.shape[-2]) * int(query.shape[-1] + value.shape[-1])


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return 2 * _attention(query, key, value)


def _recurrent_layer(inputs: Any, input_weight: Any, hidden_weight: Any, *_: Any, **__: Any) -> int:
    """One LSTM layer in one direction: both weight matrices once a row and time step."""
    return 2 * _rows(inputs) * int(input_weight.numel() + hidden_weight.numel())


def _recurrent_layer_backward(*arguments: Any, **_: Any) -> int:
    return 2 * _recurrent_layer(*arguments)


def _multi_head(
    query: Any, key: Any, value: Any, width: int, heads: int, inner: Any, inner_bias: Any,
    outer: Any, *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Projections of query, key and value, attention over all heads, projection back."""
    rows, keys = _rows(query), int(key.shape[-2])
    projected = (rows + _rows(key) + _rows(value)) * width * width
    return 2 * projected + 4 * rows * keys * width + 2 * rows * int(outer.numel())


def _encoder_layer(
    rows: Any, width: int, heads: int, inner: Any, inner_bias: Any, outer: Any, outer_bias: Any,
    use_gelu: bool, norm_first: bool, eps: float, n1: Any, b1: Any, n2: Any, b2: Any,
    first: Any, first_bias: Any, second: Any, *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Self-attention, then the two linear layers."""
    attention = _multi_head(rows, rows, rows, width, heads, inner, inner_bias, outer)
    return attention + 2 * _rows(rows) * int(first.numel() + second.numel())


def _cholesky(matrix: Any, **_: Any) -> int:
    n, batch = matrix.shape[-1], prod(matrix.shape[:-2])
    return int(batch * n * (n + 1) * (2 * n + 1)) // 6


def _lu(matrix: Any, **_: Any) -> int:
    n, batch = matrix.shape[-1], prod(matrix.shape[:-2])
    return int(batch * n * (n - 1) * (4 * n + 1)) // 6


def _triangular(matrix: Any, right: Any, *, out_val: Any, **_: Any) -> int:
    return int(matrix.shape[-1]) * int(out_val.numel())


def _cholesky_solve(right: Any, matrix: Any, *_: Any, out_val: Any, **__: Any) -> int:
    return 2 * int(matrix.shape[-1]) * int(out_val.numel())


def _solve(matrix: Any, right: Any, *, out_val: Any, **_: Any) -> int:
    """LU, then both triangles for each right-hand side; the first has a unit diagonal."""
    return _lu(out_val[1]) + (2 * int(matrix.shape[-1]) - 1) * int(out_val[0].numel())


def _inverse(matrix: Any, **_: Any) -> int:
    """A solution against the identity, as torch does it."""
    return _lu(matrix) + (2 * int(matrix.shape[-1]) - 1) * int(matrix.numel())


FORMULAS: dict[Any, Formula] = {
    aten.dot: _dot,
    aten.vdot: _dot,
    aten.mv: _matrix_vector,
    aten.addmv: _add_matrix_vector,
    aten._int_mm: _matrix,
    aten._weight_int8pack_mm: _matrix,
    aten._addmm_activation: _add_matrix,
    aten.addbmm: _add_batches,
    quantized.linear: _packed_linear,
    quantized.linear_relu: _packed_linear,
    quantized.linear_dynamic: _packed_linear,
    quantized.linear_relu_dynamic: _packed_linear,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten.mkldnn_rnn_layer_backward: _recurrent_layer_backward,
    aten._native_multi_head_attention: _multi_head,
    aten._transformer_encoder_layer_fwd: _encoder_layer,
    aten.linalg_cholesky_ex: _cholesky,
    aten.cholesky_solve: _cholesky_solve,
    aten.linalg_lu_factor_ex: _lu,
    aten.linalg_solve_triangular: _triangular,
    aten._linalg_solve_ex: _solve,
    aten.linalg_inv_ex: _inverse,
}
"""Operations for which torch has no formula, as of torch 2.13."""
