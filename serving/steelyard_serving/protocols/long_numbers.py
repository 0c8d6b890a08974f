"""Reading a request's document without a Python object for each number in it.

simdjson reads a long list of floats into a buffer, in half the time of a list (docs/benchmarks.md).
orjson has the last word: it reads all that is short, nested, repeated or not as it should be, so
that every body has one reading, and one set of words for what is wrong with it.
"""

from typing import Any

import numpy as np
import orjson
import simdjson

LONG_BYTES = 4_096
"""Looking at a shorter document twice takes longer than making its numbers objects."""
FLOATS = ("FP16", "FP32", "FP64")


class _NotSuch(Exception):
    """A document that is none of tensors of flat floats."""


def document_of(body: bytes | memoryview) -> Any:
    """What orjson reads; in a long document of tensors of flat floats, ``data`` are float64 arrays.

    Raises:
        orjson.JSONDecodeError: it is no JSON.
    """
    if isinstance(body, bytes) and len(body) >= LONG_BYTES:
        try:
            return _with_arrays(body)
        # What simdjson raises: whatever it was, orjson says it better, or can read it.
        except (_NotSuch, KeyError, RuntimeError, TypeError, ValueError):
            pass
    return orjson.loads(body)


def _with_arrays(body: bytes) -> dict[str, Any]:
    # Not kept: a parser holds as much memory as the largest document took.
    document = _fields(simdjson.Parser().parse(body))
    given = document["inputs"]
    if not isinstance(given, simdjson.Array):
        raise _NotSuch
    tensors = [_fields(one) for one in given]
    lists = 1 + len(tensors)
    for tensor in tensors:
        tensor["data"] = _floats(tensor)
    document["inputs"] = tensors
    for fields in (document, *tensors):
        for name, value in fields.items():
            if isinstance(value, simdjson.Array):
                lists += 1
                fields[name] = value.as_list()
            elif isinstance(value, simdjson.Object):
                fields[name] = value.as_dict()
    if not _opened(body, lists):
        raise _NotSuch
    return document


def _fields(value: object) -> dict[str, Any]:
    """An object's fields, each as it comes; of repeated ones, another reader may take another."""
    if not isinstance(value, simdjson.Object):
        raise _NotSuch
    found = {name: value[name] for name in value}
    if len(found) != len(value):
        raise _NotSuch
    return found


def _floats(tensor: dict[str, Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    data = tensor["data"]
    if tensor["datatype"] not in FLOATS or not isinstance(data, simdjson.Array):
        raise _NotSuch
    if not len(data) or isinstance(data[0], simdjson.Array):
        raise _NotSuch
    return np.frombuffer(data.as_buffer(of_type="d"), np.float64)


def _opened(body: bytes, lists: int) -> bool:
    """Whether this is all the brackets that open: the buffer of a list in a list looks flat."""
    at = -1
    for _ in range(lists):
        at = body.find(b"[", at + 1)
    return body.find(b"[", at + 1) < 0
