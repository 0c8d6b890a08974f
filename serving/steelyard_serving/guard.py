"""What a model put out, looked at before anybody is told or anything is kept."""

from collections.abc import Mapping

from steelyard_serving.protocols.tensors import Array, are_finite


def is_sound(outputs: Mapping[str, Array]) -> bool:
    """Whether no number is NaN or infinite."""
    return all(one.dtype.kind != "f" or are_finite(one) for one in outputs.values())
