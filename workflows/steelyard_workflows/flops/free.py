"""Operations that count 0 by convention: they move, look up, draw, compare, normalise or pool.

Views, elementwise operations and reductions carry a tag of torch's; the others stand here.
An operation that is neither here nor among the formulas makes a count incomplete.
"""

from typing import Any

import torch

CREATE = """
arange empty empty_like empty_permuted empty_strided eye fill full full_like lift_fresh linspace
new_empty new_empty_strided new_full new_ones new_zeros ones ones_like scalar_tensor tril_indices
triu_indices zero zeros zeros_like
"""
DRAW = """
bernoulli exponential multinomial native_dropout normal poisson rand rand_like randint randint_like
randn randn_like random randperm uniform
"""
MOVE = """
_local_scalar_dense _to_copy _unsafe_view _unsafe_index _unsafe_index_put
_has_compatible_shallow_copy_type block_diag cat channel_shuffle clone col2im constant_pad_nd copy
detach diag_embed diagonal diagonal_scatter embedding embedding_dense flip gather im2col index
index_add index_fill index_put index_select masked_fill masked_scatter masked_select nonzero
pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat
repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize roll scatter
scatter_add scatter_reduce select select_scatter set slice slice_scatter squeeze stack t take
transpose tril triu unfold unsafe_split unsafe_split_with_sizes unsqueeze
"""
LOOK_UP = """
_embedding_bag _embedding_bag_dense _embedding_bag_forward_only _unique2 bincount bucketize isin
kthvalue median mode searchsorted sort topk unique_consecutive
"""
NORMALISE = """
_batch_norm_no_update _batch_norm_with_update _fused_rms_norm _log_softmax _masked_softmax
_native_batch_norm_legit _native_batch_norm_legit_no_training _safe_softmax _softmax
_weight_norm_interface cummax cummin cumprod cumsum logcumsumexp native_batch_norm
native_group_norm native_layer_norm
"""
POOL = """
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d avg_pool2d
avg_pool3d max_pool2d_with_indices max_pool3d_with_indices upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
"""
ELEMENTWISE = """
_linalg_check_errors _prelu_kernel addr binary_cross_entropy binary_cross_entropy_with_logits elu
gelu glu hardshrink hardsigmoid hardswish hardtanh huber_loss leaky_relu linalg_cross log_sigmoid
log_sigmoid_forward mse_loss nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward
rrelu_with_noise smooth_l1_loss soft_margin_loss softplus softshrink threshold
"""

FREE = frozenset(" ".join((CREATE, DRAW, MOVE, LOOK_UP, NORMALISE, POOL, ELEMENTWISE)).split())
"""Plain names; their forms in place and their backward passes are free as well."""

_TAGS = frozenset({torch.Tag.pointwise, torch.Tag.reduction})


def is_free(func: Any) -> bool:
    """Whether an operation counts 0 by the convention above."""
    if func.is_view or not _TAGS.isdisjoint(func.tags):
        return True
    name = func._overloadpacket.__name__.removesuffix("_")
    plain = name.removesuffix("_data").removesuffix("_backward")
    return func.namespace in ("aten", "prim") and (name in FREE or plain in FREE)
