"""Weights with many zeros in few bytes: a bit for each weight, and the values that are not 0.

At nine zeros in ten a bitmask takes less than compressed sparse rows, whose indices are numbers.
"""

from collections.abc import Mapping

import numpy as np
import torch

MASK, VALUES, SHAPE = ".mask", ".values", ".shape"


def pack(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every tensor that is smaller so as mask, values and shape; the others as they are."""
    packed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        whole = tensor.detach().clone().contiguous()
        zero = whole == 0
        saved = int(zero.sum()) * whole.element_size()
        if saved <= whole.numel() / 8 + 8 * whole.dim():
            packed[name] = whole
            continue
        packed[name + MASK] = torch.from_numpy(np.packbits(~zero.numpy().ravel()))
        packed[name + VALUES] = whole[~zero]
        packed[name + SHAPE] = torch.tensor(whole.shape)
    return packed


def unpack(packed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors again, bit for bit.

    >>> state = {"weight": torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.0]] * 40)}
    >>> torch.equal(unpack(pack(state))["weight"], state["weight"])
    True
    """
    state: dict[str, torch.Tensor] = {}
    for name, tensor in packed.items():
        if name.endswith(SHAPE) and name.removesuffix(SHAPE) + MASK in packed:
            plain = name.removesuffix(SHAPE)
            state[plain] = _unpacked(packed[plain + MASK], packed[plain + VALUES], tensor)
        elif not (name.endswith((MASK, VALUES)) and name.rpartition(".")[0] + SHAPE in packed):
            state[name] = tensor
    return state


def _unpacked(mask: torch.Tensor, values: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    size = tuple(int(n) for n in shape)
    count = int(np.prod(size))
    kept = torch.from_numpy(np.unpackbits(mask.numpy(), count=count).astype(bool))
    whole = torch.zeros(count, dtype=values.dtype)
    whole[kept] = values
    return whole.view(size)
