"""Long documents are read as short ones are: by another parser, and to the same end."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard_serving.protocols.long_numbers import LONG_BYTES, document_of

WIDE = settings(max_examples=300)
LONG = b" " * LONG_BYTES
"""Space behind a document makes it long, and changes nothing else."""
numbers = (
    st.integers(-(2**64), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
)
odd: st.SearchStrategy[Any] = st.sampled_from([True, None, "a", "[", [], [1], [[]], {}, {"a": 1}])
flat = st.lists(numbers, max_size=6)
lists = flat | st.lists(numbers | odd, max_size=6) | st.lists(flat, max_size=3)
datatypes = st.sampled_from(["FP16", "FP32", "FP64", "FP64", "FP64", "INT64", None])


def objects(*fields: tuple[str, st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    """Mostly each field once; some are left out or repeated."""
    each = [st.tuples(st.just(json.dumps(name)), value) for name, value in fields]
    whole = st.tuples(*each).map(list)
    told = whole | whole | st.lists(st.one_of(*each), max_size=7)
    return told.map(lambda pairs: "{" + ",".join(map(":".join, pairs)) + "}")


def told(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """As JSON."""
    return values.map(json.dumps)


def in_list(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A list of at most three."""
    return st.lists(texts, max_size=3).map(lambda all_: f"[{','.join(all_)}]")


tensors = objects(
    ("name", told(st.sampled_from(["x", "x[", "\ud800", "\0", 7]))),
    ("datatype", told(datatypes)),
    ("shape", told(st.just([1, 2]) | lists)),
    ("parameters", told(st.just({}) | odd)),
    ("data", told(lists) | told(odd)),
)
documents = objects(
    ("id", told(st.just("a") | odd)),
    ("outputs", told(st.just([{"name": "y"}]) | odd)),
    ("inputs", in_list(tensors) | told(odd)),
)


def read(body: bytes) -> object:
    """What comes of a body, as text, which tells -0.0 from 0.0 and 1 from true; or the refusal."""
    try:
        document = document_of(body)
    except orjson.JSONDecodeError as error:
        return error.msg
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        return repr(document)
    for tensor in document["inputs"]:
        if isinstance(tensor, dict) and "data" in tensor:
            tensor["data"] = doubles(tensor["data"])
    return repr(document)


def doubles(data: Any) -> Any:
    """A flat list of numbers as doubles, an array as a list."""
    if isinstance(data, np.ndarray):
        return data.tolist()
    if isinstance(data, list) and all(type(one) in (int, float) for one in data):
        return [float(one) for one in data]
    return data


def is_array(body: bytes) -> bool:
    """Whether the first tensor's data is not made of objects."""
    return isinstance(document_of(body)["inputs"][0]["data"], np.ndarray)


@WIDE
@given(documents)
def test_a_long_document_says_what_a_short_one_says(text: str) -> None:
    """Whatever is in it, in whatever order, once or twice."""
    assert read(text.encode() + LONG) == read(text.encode())


@WIDE
@given(flat, st.data())
def test_one_byte_that_is_wrong_changes_no_reading(
    values: list[float], data: st.DataObject
) -> None:
    """A refusal is a refusal, in the same words; what is still JSON says the same."""
    body = bytearray(json.dumps({"inputs": [
        {"name": "x", "datatype": "FP64", "shape": [len(values)], "data": values}
    ]}).encode())  # fmt: skip
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert read(bytes(body) + LONG) == read(bytes(body))


@pytest.mark.parametrize(("data", "fast"), [
    ([0.5, 1, -2], True), ([[0.5], [1]], False), ([1, [2, 3], []], False), ([1, True], False),
])  # fmt: skip
def test_only_a_flat_list_of_numbers_is_read_without_objects(data: list[Any], fast: bool) -> None:
    """Lists in it and what is no number are looked at one by one."""
    body = json.dumps({"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": data}
    ]}).encode()  # fmt: skip
    assert is_array(body + LONG) is fast
    assert not is_array(body)
