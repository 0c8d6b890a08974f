"""Tensors as raw bytes: little-endian, row-major, no padding; a BYTES value after its length."""

import struct
from math import prod

import numpy as np

from steelyard.domain.model_version import TensorSpec
from steelyard_serving.protocols.faults import invalid
from steelyard_serving.protocols.tensors import DTYPES, Array, finite

_LENGTH = struct.Struct("<I")


def from_raw(field: str, data: memoryview, datatype: str, shape: tuple[int, ...]) -> Array:
    """The tensor of a checked shape in exactly these bytes.

    Raises:
        InvalidInput: there are more or fewer bytes, or one is not of the datatype.
    """
    if datatype == "BYTES":
        return _texts(field, data, prod(shape)).reshape(shape)
    dtype = np.dtype(DTYPES[datatype]).newbyteorder("<")
    wanted = prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise invalid(field, f"must be {wanted} bytes, found {len(data)}")
    if datatype == "BOOL" and np.frombuffer(data, np.uint8).max() > 1:
        raise invalid(field, "a BOOL is a byte of 0 or 1")
    # A copy of its own: bytes inside a body may lie unaligned, and would keep all of it.
    array = np.frombuffer(data, dtype).astype(DTYPES[datatype])
    return (finite(field, array, datatype) if dtype.kind == "f" else array).reshape(shape)


def to_raw(array: Array) -> bytes:
    """The bytes of a tensor."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [str(text).encode() for text in array.flat]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def raw_shape(spec: TensorSpec, size: int) -> list[int]:
    """The shape of the only input when its bytes are the whole body: deduced from their number.

    Raises:
        InvalidInput: more than one dimension is open, or the bytes are no whole number of items.
    """
    known = prod(n for n in spec.shape if n >= 0)
    if spec.datatype == "BYTES":
        if known != 1:
            raise invalid("body", f"raw bytes are one BYTES value, {spec.name} has {known}")
        return [1] * len(spec.shape)
    if spec.shape.count(-1) > 1:
        raise invalid("body", f"raw bytes do not say the shape of {spec.name}, which is open")
    step = known * np.dtype(DTYPES[spec.datatype]).itemsize
    if not size or not step or size % step:
        raise invalid("body", f"must be a multiple of {step} bytes, found {size}")
    return [size // step if n < 0 else n for n in spec.shape]


def _texts(field: str, data: memoryview, count: int) -> Array:
    """As many texts as the shape says, and no byte more."""
    texts: list[str] = []
    position = 0
    while position < len(data) and len(texts) < count:
        if position + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size + length
        if position > len(data):
            break
        texts.append(_text(field, bytes(data[position - length : position])))
    if position != len(data) or len(texts) != count:
        raise invalid(field, f"must be {count} BYTES values, each after its length, and no more")
    return np.array(texts, object)


def _text(field: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise invalid(field, "a BYTES value is not UTF-8") from error
