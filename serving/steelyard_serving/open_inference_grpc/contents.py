"""A tensor's typed contents in a gRPC message, to the raw bytes of the REST protocol and back."""

import struct
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from steelyard_serving.protocols.faults import brief, invalid
from steelyard_serving.protocols.raw_tensors import to_raw
from steelyard_serving.protocols.tensors import DTYPES

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}  # fmt: skip
"""Where a datatype's values are in ``InferTensorContents``. FP16 has no place: it goes raw."""

_WIDE = {"int_contents": "int32", "uint_contents": "uint32"}
_LENGTH = struct.Struct("<I")


def raw_of(where: str, tensor: Any) -> bytes:
    """The bytes of an ``InferInputTensor``'s typed contents, as many values as its shape says.

    Raises:
        InvalidInput: the datatype has no typed contents, the values are in another's field, are
            more or fewer, or do not fit the datatype.
    """
    field = FIELDS.get(tensor.datatype)
    if field is None:
        raise invalid(f"{where}.datatype", f"{brief(tensor.datatype)} has no typed contents")
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            raise invalid(
                f"{where}.contents", f"{tensor.datatype} is in {field}, found {other.name}"
            )
    values = getattr(tensor.contents, field)
    count = prod(tensor.shape)
    # A shape with an open dimension is the replica's to refuse.
    if len(values) != count and min(tensor.shape, default=0) >= 0:
        raise invalid(f"{where}.contents", f"must hold {count} values, found {len(values)}")
    if tensor.datatype == "BYTES":
        return b"".join(part for text in values for part in (_LENGTH.pack(len(text)), text))
    return to_raw(_numbers(where, values, field, tensor.datatype))


def fill(contents: Any, datatype: str, data: memoryview) -> None:
    """Put a tensor's raw bytes into an ``InferTensorContents``, typed."""
    field = getattr(contents, FIELDS[datatype])
    if datatype == "BYTES":
        field.extend(_texts(data))
    else:
        field.extend(np.frombuffer(data, np.dtype(DTYPES[datatype]).newbyteorder("<")).tolist())


def _numbers(where: str, values: Sequence[Any], field: str, datatype: str) -> Any:
    target = np.dtype(DTYPES[datatype])
    wide = np.fromiter(values, _WIDE.get(field, target), len(values))
    if wide.dtype != target and len(wide):
        info = np.iinfo(target)
        if wide.min() < info.min or wide.max() > info.max:
            raise invalid(f"{where}.contents", f"{datatype} is in {info.min}..{info.max}")
    return wide.astype(target, copy=False)


def _texts(data: memoryview) -> Iterable[bytes]:
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size + length
        yield bytes(data[position - length : position])
