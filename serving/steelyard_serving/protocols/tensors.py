"""Tensors as clients write them in JSON: checked against a signature, and made arrays.

Numpy sees no value whose type was not looked at: it would make numbers of texts, and room for as
many copies of the longest text as there are values.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.protocols.faults import brief, invalid

Array = NDArray[Any]

DTYPES: dict[str, str] = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object",
}  # fmt: skip
"""The datatypes that are served, by numpy's name. BYTES are text: arrays of ``str``."""

BATCH_LIMIT = 4096
"""Most rows in one request: the first dimension, where the signature leaves it open."""

ELEMENT_LIMIT = 4_000_000
"""Most values in one tensor, whatever its shape says."""

_ALLOWED: dict[str, frozenset[type]] = {
    "b": frozenset({bool}), "i": frozenset({int}), "u": frozenset({int}),
    "f": frozenset({int, float}), "O": frozenset({str}),
}  # fmt: skip


def checked_shape(field: str, shape: Any, spec: TensorSpec) -> tuple[int, ...]:
    """The shape that a client gives, if the signature and the limits allow it.

    Raises:
        InvalidInput: it is no list of whole numbers, does not fit, or is too large.
    """
    # bool is an int in Python, but true is not a dimension.
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise invalid(field, "must be a list of whole numbers")
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, got) for got, want in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise invalid(field, f"must be {list(spec.shape)}, found {brief(shape)}")
    if any(n < 1 for n in shape):
        raise invalid(field, f"dimensions are at least 1, found {brief(shape)}")
    if shape and spec.shape[0] == -1 and shape[0] > BATCH_LIMIT:
        raise invalid(field, f"at most {BATCH_LIMIT} rows, found {shape[0]}")
    if prod(shape) > ELEMENT_LIMIT:
        raise invalid(field, f"at most {ELEMENT_LIMIT} elements, found {prod(shape)}")
    return tuple(shape)


def array_of(field: str, data: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    """Values of a checked shape, flat and row-major or nested; of floats, an array will do.

    Raises:
        InvalidInput: there are more or fewer, or one is not of the datatype.
    """
    if not isinstance(data, list | np.ndarray):
        raise invalid(field, "must be a list")
    count = prod(shape)
    values = _flat(field, data, shape) if isinstance(data, list) else data
    if len(values) != count:
        raise invalid(field, f"must hold {count} values, flat or nested, found {len(values)}")
    target = np.dtype(DTYPES[datatype])
    if target.kind == "f":
        return finite(field, _floats(field, values, target, datatype), datatype).reshape(shape)
    _require(field, values, datatype)
    try:
        return np.fromiter(values, target, count).reshape(shape)
    except OverflowError as fault:
        info = np.iinfo(target)
        raise invalid(field, f"{datatype} is in {info.min}..{info.max}") from fault


def are_finite(numbers: Array) -> bool:
    """Whether no value is NaN or infinite."""
    # Takes half the time of ``all()``, which numpy wraps in Python.
    return bool(np.count_nonzero(np.isfinite(numbers)) == numbers.size)


def finite(field: str, numbers: Array, datatype: str) -> Array:
    """The array again, if no value of it is NaN or infinite.

    Raises:
        InvalidInput: one is.
    """
    if not are_finite(numbers):
        raise invalid(field, f"a value does not fit {datatype}")
    return numbers


def row_count(inputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> int:
    """How many items a request holds: the open first dimension, the same in all inputs.

    Raises:
        InvalidInput: the inputs do not agree.
    """
    open_specs = [spec for spec in specs if spec.shape and spec.shape[0] == -1]
    counts = {inputs[spec.name].shape[0] for spec in open_specs}
    if len(counts) > 1:
        raise invalid("inputs", f"all need the same number of rows, found {sorted(counts)}")
    return int(counts.pop()) if counts else 1


def names(specs: Sequence[TensorSpec]) -> str:
    """Their names, for a message."""
    return ", ".join(spec.name for spec in specs)


def zeros(signature: Signature) -> dict[str, Array]:
    """One item of zeros and empty texts, for warming up and for probing."""
    return {
        spec.name: np.full(
            [1 if n < 0 else n for n in spec.shape],
            "" if spec.datatype == "BYTES" else 0,
            DTYPES[spec.datatype],
        )
        for spec in signature.inputs
    }


def classes(outputs: Mapping[str, Array], signature: Signature) -> tuple[int, ...] | None:
    """The arg max of each row of the first output, when that looks like a small classifier's."""
    first = outputs.get(signature.outputs[0].name)
    if first is None or first.ndim != 2 or not 2 <= first.shape[1] <= 1000 or len(first) > 64:
        return None
    return None if first.dtype.kind == "O" else tuple(first.argmax(axis=1).tolist())


def _floats(
    field: str, values: list[Any] | Array, target: "np.dtype[Any]", datatype: str
) -> Array:  # fmt: skip
    """Numbers, rounded to the target; one that does not fit becomes infinite."""
    numbers = (
        values if isinstance(values, np.ndarray) else _numbers(field, values, target, datatype)
    )
    if numbers.dtype == target:
        return numbers
    with np.errstate(over="ignore"):
        return numbers.astype(target)


def _numbers(field: str, values: list[Any], target: "np.dtype[Any]", datatype: str) -> Array:
    code = "f" if target.itemsize == 4 else "d"
    try:
        # Faster than numpy at this, and it takes nothing but numbers and true and false,
        numbers = np.frombuffer(array(code, values), code)
    except TypeError as fault:
        raise _stranger(field, datatype) from fault
    # which count as 1 and 0 unless they come first: a look at each type would cost as much again.
    if type(values[0]) is bool:
        raise _stranger(field, datatype)
    return numbers


def _require(field: str, values: Iterable[Any], datatype: str) -> None:
    """Only the right kind of JSON value: no 0.5 as an integer, no number as a text, no null."""
    if not _ALLOWED[np.dtype(DTYPES[datatype]).kind].issuperset(map(type, values)):
        raise _stranger(field, datatype)


def _stranger(field: str, datatype: str) -> InvalidInput:
    return invalid(field, f"holds something that is not {datatype}")


def _flat(field: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The values one after the other; nested lists are as long as the shape says."""
    if not data or type(data[0]) is not list:
        return data
    for length in shape[1:]:
        if not all(type(one) is list and len(one) == length for one in data):
            raise invalid(field, "nested lists must have equal lengths, those of the shape")
        data = list(chain.from_iterable(data))
    return data
