"""What is read of an ONNX file before any loader gets it."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from steelyard.domain import onnx_file
from steelyard.domain.errors import Refused
from steelyard.domain.onnx_file import PARTS, check_onnx

WEIGHT = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
FLOAT = TensorProto.FLOAT


def outside(location: str = "../../etc/passwd", name: str = "w") -> onnx.TensorProto:
    """A weight that names a file as its place."""
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=[2, 2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="16")
    return tensor


def graph_of(*nodes: onnx.NodeProto, weights: list[onnx.TensorProto]) -> onnx.GraphProto:
    """A graph of one input and one output."""
    ends = [helper.make_tensor_value_info(name, FLOAT, ["n", 2]) for name in "xy"]
    return helper.make_graph(list(nodes), "g", ends[:1], ends[1:], weights)


def product(domain: str = "") -> onnx.NodeProto:
    """The product of the input with the weight."""
    return helper.make_node("MatMul", ["x", "w"], ["y"], domain=domain)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model around a graph."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


PLAIN = model_of(graph_of(product(), weights=[WEIGHT]))


def in_initializer() -> onnx.ModelProto:
    """Where exporters put it."""
    return model_of(graph_of(product(), weights=[outside()]))


def in_sparse_initializer() -> onnx.ModelProto:
    """As the values of a sparse weight."""
    model = model_of(graph_of(product(), weights=[WEIGHT]))
    model.graph.sparse_initializer.add().values.CopyFrom(outside())
    return model


def in_constant() -> onnx.ModelProto:
    """As the value of a node."""
    constant = helper.make_node("Constant", [], ["w"], value=outside())
    return model_of(graph_of(constant, product(), weights=[]))


def in_branch() -> onnx.ModelProto:
    """In a graph inside of a node."""
    branch = graph_of(product(), weights=[outside()])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    return model_of(graph_of(choice, weights=[]))


def in_function() -> onnx.ModelProto:
    """In a function that the model brings along."""
    constant = helper.make_node("Constant", [], ["w"], value=outside())
    model = model_of(graph_of(product(), weights=[WEIGHT]))
    made = helper.make_function("own", "F", ["x"], ["y"], [constant], [helper.make_opsetid("", 20)])
    model.functions.append(made)
    return model


def in_memory() -> onnx.ModelProto:
    """An address in the memory of whoever loads it, which onnxruntime takes for a place."""
    return model_of(graph_of(product(), weights=[outside("*/_ORT_MEM_ADDR_/*")]))


def without_mark() -> onnx.ModelProto:
    """A place without the mark that there is one."""
    tensor = outside()
    tensor.ClearField("data_location")
    return model_of(graph_of(product(), weights=[tensor]))


@pytest.mark.parametrize(
    "make",
    [in_initializer, in_sparse_initializer, in_constant, in_branch, in_function, in_memory,
     without_mark],
)  # fmt: skip
def test_a_weight_outside_of_the_file_is_refused(make: Callable[[], onnx.ModelProto]) -> None:
    """Wherever it hides; the message names weight and place."""
    with pytest.raises(Refused, match="Weight 'w' lies outside of the file, in ") as refused:
        check_onnx(make().SerializeToString())
    assert "passwd" in refused.value.message or "MEM_ADDR" in refused.value.message


def test_a_model_of_one_file_is_taken() -> None:
    """Of the standard's operations, of onnxruntime's own, and of functions that it brings."""
    check_onnx(PLAIN.SerializeToString())
    check_onnx(model_of(graph_of(product("com.microsoft"), weights=[WEIGHT])).SerializeToString())
    own = model_of(graph_of(helper.make_node("F", ["x"], ["y"], domain="own"), weights=[]))
    own.functions.append(
        helper.make_function("own", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])],
                             [helper.make_opsetid("", 20)])
    )  # fmt: skip
    check_onnx(own.SerializeToString())


def test_an_operation_from_elsewhere_is_refused() -> None:
    """It would need a library of its own; one that loads another file is none of onnxruntime's."""
    with pytest.raises(Refused, match="MatMul is of the domain 'evil'"):
        check_onnx(model_of(graph_of(product("evil"), weights=[WEIGHT])).SerializeToString())
    context = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft",
                               ep_cache_context="../../tmp/engine.bin")  # fmt: skip
    with pytest.raises(Refused, match="EPContext loads another file"):
        check_onnx(model_of(graph_of(context, weights=[])).SerializeToString())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "holds no graph"),
        (b"PK\x03\x04" + b"\0" * 40, "not an ONNX file"),
        (b"\x80\x04\x95\x1f\0\0\0", "not an ONNX file"),
        (b"#!/bin/sh\n", "not an ONNX file"),
        (PLAIN.SerializeToString()[:-3], "broken off"),
        (b"\x3b", "wire type 3"),
        (b"\x38\x01", "a number stands where a part belongs"),
        (b"\x00\x01", "field number 0"),
        (b"\xff" * 11, "broken off"),
    ],
)
def test_what_is_no_onnx_file_is_refused(data: bytes, why: str) -> None:
    """A ZIP file, a pickle, a script, one that is broken off, and what protobuf never writes."""
    with pytest.raises(Refused, match=why):
        check_onnx(data)


def test_a_file_made_to_keep_its_reader_busy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many fields, or parts in parts in parts."""
    deep = b""
    for _ in range(60):  # a graph in an attribute of a node in a graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            deep = tag + _length(len(deep)) + deep
    with pytest.raises(Refused, match="more than 100 deep"):
        check_onnx(b"\x3a" + _length(len(deep)) + deep)
    monkeypatch.setattr(onnx_file, "MOST_FIELDS", 10)
    with pytest.raises(Refused, match="more than 10 fields"):
        check_onnx(b"\x08\x01" * 11)


def _length(value: int) -> bytes:
    """A length as protobuf writes it."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_end_in_anything_but_an_answer(noise: bytes, at: int) -> None:
    """Any bytes, alone or inside of a model: taken or refused, never an error of another kind."""
    whole = PLAIN.SerializeToString()
    for data in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            check_onnx(data)
        except Refused:
            continue


def test_every_way_to_a_tensor_or_an_operation_is_known() -> None:
    """Field by field against the installed standard: a new one in a later ONNX fails here."""
    wanted: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name in wanted:
            continue
        inner = [f for f in message.fields if f.message_type is not None
                 and leads(f.message_type, frozenset())]  # fmt: skip
        wanted[message.name] = {f.number: f.message_type.name for f in inner}
        waiting += [f.message_type for f in inner]
    assert {name: dict(fields) for name, fields in PARTS.items()} == wanted
    tensor, node = onnx.TensorProto.DESCRIPTOR, onnx.NodeProto.DESCRIPTOR
    function = onnx.FunctionProto.DESCRIPTOR
    assert [tensor.fields_by_name[n].number for n in ("name", "external_data", "data_location")] \
        == [8, 13, 14]  # fmt: skip
    assert [node.fields_by_name[n].number for n in ("op_type", "domain")] == [4, 7]
    assert [function.fields_by_name[n].number for n in ("name", "domain")] == [1, 10]


def leads(message: object, seen: frozenset[str]) -> bool:
    """Whether a message holds tensors or nodes, at any depth."""
    name = message.name  # type: ignore[attr-defined]  # protobuf's descriptors have no types
    if name in ("TensorProto", "NodeProto"):
        return True
    return name not in seen and any(
        leads(f.message_type, seen | {name})
        for f in message.fields  # type: ignore[attr-defined]
        if f.message_type is not None
    )
