"""Sizes: parameters, bytes, devices."""

from fractions import Fraction
from itertools import pairwise

from steelyard.domain.calculations.figure import Figures
from steelyard.domain.errors import InvalidInput
from steelyard.domain.memory import (
    SparseIndex,
    devices_needed,
    saving,
    sparse_bytes,
    training_state_bytes,
    weight_bytes,
)

GB = 10**9
BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
SPARSE: tuple[tuple[str, SparseIndex], ...] = (
    ("fp32", "int32"),
    ("fp16", "int32"),
    ("fp16", "bitmask"),
)


def size_change(*, original_params: Fraction, variant_params: Fraction) -> Figures:
    """How much smaller a variant is, and which part of the original is left."""
    saved = saving(original_params, variant_params)
    return {"percent_smaller": saved * 100, "percent_of_original": (1 - saved) * 100}


def weights_on_devices(*, params: int, device_gb: Fraction) -> Figures:
    """Weights alone at each precision, and the fewest devices that hold them."""
    figures: Figures = {}
    for name, bits in BITS.items():
        size = weight_bytes(params, bits)
        figures[f"{name}_gb"] = size / GB
        figures[f"{name}_devices_at_least"] = Fraction(devices_needed(size, round(device_gb * GB)))
    return figures


def training_memory(*, params: dict[str, int]) -> Figures:
    """Weights, gradients and optimizer states while training; activations come on top."""
    return {
        f"{name}_gb_at_least": Fraction(training_state_bytes(count), GB)
        for name, count in params.items()
    }


def sparse_storage(*, params: int, zeros: Fraction) -> Figures:
    """What storing only the weights that are not 0 takes, and saves against the dense file."""
    figures: Figures = {}
    for precision, index in SPARSE:
        dense = weight_bytes(params, BITS[precision])
        stored = sparse_bytes(params, zeros, BITS[precision], index)
        figures[f"{precision}_{index}_gb"] = stored / GB
        figures[f"{precision}_{index}_percent_smaller"] = saving(dense, stored) * 100
    return figures


def perceptron(*, layers: list[int]) -> Figures:
    """Parameters, FLOPs and bytes of a fully connected network; biases stay FP32 in INT8."""
    if len(layers) < 2 or min(layers) < 1:
        raise InvalidInput(f"A network has two layers of units at least, found {layers}.")
    weights = sum(left * right for left, right in pairwise(layers))
    biases = sum(layers[1:])
    return {
        "params": Fraction(weights + biases),
        "flop_per_sample": Fraction(2 * weights),
        "fp32_bytes": weight_bytes(weights + biases, 32),
        "int8_bytes": weight_bytes(weights, 8) + weight_bytes(biases, 32),
    }
