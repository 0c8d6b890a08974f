"""How many bytes a model needs, stored, sparse or in training, and how many devices that takes.

These are lower bounds: weights alone, or the states of an optimizer alone. Activations, caches
and the runtime come on top.
"""

from fractions import Fraction
from typing import Literal

from steelyard.domain.errors import InvalidInput

TRAINING_BYTES_PER_PARAM = 16
"""Mixed-precision Adam: FP16 weights and gradients, FP32 weights, momentum and variance
(2 + 2 + 4 + 4 + 4; ZeRO, arXiv 1910.02054, section 3.1)."""

INDEX_BITS = 32
SparseIndex = Literal["int32", "bitmask"]


def weight_bytes(params: int, bits: int) -> Fraction:
    """Bytes of ``params`` dense weights of ``bits`` bits each.

    >>> weight_bytes(175 * 10**9, 4) / 10**9
    Fraction(175, 2)
    """
    _check(params, bits)
    return Fraction(params * bits, 8)


def training_state_bytes(params: int, per_param: int = TRAINING_BYTES_PER_PARAM) -> int:
    """Bytes of weights, gradients and optimizer states; activations come on top.

    >>> training_state_bytes(175 * 10**9) // 10**9
    2800
    """
    _check(params, per_param)
    return params * per_param


def sparse_bytes(params: int, zeros: Fraction, bits: int, index: SparseIndex) -> Fraction:
    """Bytes when only the weights that are not 0 are stored, with where they stand.

    ``int32`` stores an index of 4 bytes with each value, ``bitmask`` one bit for every weight.
    Zeros alone save nothing: a dense tensor of zeros is as large as any other.

    >>> sparse_bytes(175 * 10**9, Fraction("0.7"), 16, "bitmask") / 10**9
    Fraction(1015, 8)

    Raises:
        InvalidInput: the share of ``zeros`` is outside 0 to 1.
    """
    _check(params, bits)
    if not 0 <= zeros <= 1:
        raise InvalidInput(f"A share of zeros is from 0 to 1, found {zeros}.")
    kept = params * (1 - zeros)
    places = kept * INDEX_BITS if index == "int32" else Fraction(params)
    return (kept * bits + places) / 8


def devices_needed(size_bytes: Fraction | int, memory_bytes: int) -> int:
    """The fewest devices whose memory holds that many bytes, if it can be split at will.

    >>> devices_needed(weight_bytes(175 * 10**9, 32), 80 * 10**9)
    9

    Raises:
        InvalidInput: a device without memory, or a negative size.
    """
    if memory_bytes <= 0 or size_bytes < 0:
        raise InvalidInput(
            f"A size is not negative and a device has memory, found {size_bytes} B "
            f"on devices of {memory_bytes} B."
        )
    return -(-size_bytes // memory_bytes)


def saving(original: Fraction | int, stored: Fraction | int) -> Fraction:
    """Which part of ``original`` is saved; negative when it grew.

    "60 % of the size" is a saving of 40 %.

    >>> saving(110, 66)
    Fraction(2, 5)

    Raises:
        InvalidInput: the original has no size.
    """
    if original <= 0:
        raise InvalidInput(f"The original has a size, found {original}.")
    return 1 - Fraction(stored) / original


def _check(params: int, each: int) -> None:
    if params < 0 or each < 1:
        raise InvalidInput(f"A model has weights of a size, found {params} of {each}.")
