"""gRPC's messages and the REST protocol say the same: through the very reader of a replica."""

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from steelyard.domain.errors import InvalidInput, Unavailable
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.open_inference_grpc import edge_client
from steelyard_serving.open_inference_grpc import open_inference_pb2 as pb
from steelyard_serving.open_inference_grpc.contents import FIELDS
from steelyard_serving.open_inference_grpc.edge_client import EdgeAnswer, EdgeClient
from steelyard_serving.open_inference_grpc.messages import Document, answered, asked
from steelyard_serving.open_inference_grpc.service import refused
from steelyard_serving.protocols import open_inference
from steelyard_serving.protocols.open_inference import JSON_LENGTH
from steelyard_serving.protocols.raw_tensors import to_raw
from steelyard_serving.protocols.tensors import DTYPES

NUMBERS = [name for name in DTYPES if name != "BYTES"]


def signature(datatype: str) -> Signature:
    """One input and one output of a datatype, a list of rows of two."""
    return Signature((TensorSpec("x", datatype, (-1, 2)),), (TensorSpec("y", datatype, (-1, 2)),))


def request(datatype: str, array: Any, typed: bool) -> pb.ModelInferRequest:
    """A message that asks with an array."""
    message = pb.ModelInferRequest(model_name="m", id="i")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=array.shape)
    if typed:
        values = [text.encode() for text in array.flat] if datatype == "BYTES" else array.flat
        getattr(tensor.contents, FIELDS[datatype]).extend(values)
    else:
        message.raw_input_contents.append(to_raw(array))
    return message


def read(message: pb.ModelInferRequest, datatype: str) -> Any:
    """What a replica of such a signature understands."""
    length, body = asked(message)
    return open_inference.read(body, {JSON_LENGTH: str(length)}, signature(datatype))


def values(datatype: str) -> st.SearchStrategy[Any]:
    """Some rows of a datatype."""
    rows = st.tuples(st.integers(1, 5), st.just(2))
    if datatype == "BYTES":
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
        return rows.flatmap(
            lambda shape: st.lists(texts, min_size=shape[0] * 2, max_size=shape[0] * 2).map(
                lambda found: np.array(found, object).reshape(shape)
            )
        )
    finite = {"allow_nan": False, "allow_infinity": False} if "FP" in datatype else {}
    return arrays.arrays(DTYPES[datatype], rows, elements=finite)


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@settings(max_examples=30)
@given(data=st.data())
def test_a_replica_reads_what_was_meant(datatype: str, data: st.DataObject) -> None:
    """Every datatype, raw and (FP16 apart) typed, there and back."""
    array = data.draw(values(datatype))
    for typed in (False, True) if datatype in FIELDS else (False,):
        understood = read(request(datatype, array, typed), datatype)
        assert understood.request_id == "i"
        assert understood.binary == {"y"}
        assert understood.inputs["x"].dtype == np.dtype(DTYPES[datatype])
        assert to_raw(understood.inputs["x"]) == to_raw(array)
        raw = to_raw(array)
        head = (
            b'{"model_name":"m","model_version":"1","id":"i","parameters":{"prediction_id":"p",'
            b'"cached":true,"n":2,"share":0.5},"outputs":[{"name":"y","datatype":"%s","shape":'
            b'[%d,2],"parameters":{"binary_data_size":%d}}]}'
            % (datatype.encode(), len(array), len(raw))
        )
        message = answered(Document(len(head), head + raw), typed)
        again = request(datatype, array, typed)
        assert list(message.raw_output_contents) == list(again.raw_input_contents)
        assert message.outputs[0].contents == again.inputs[0].contents
        assert list(message.outputs[0].shape) == [len(array), 2]
        told = message.parameters
        assert told["prediction_id"].string_param == "p" and told["cached"].bool_param is True
        assert told["n"].int64_param == 2 and told["share"].double_param == 0.5
        assert not message.outputs[0].parameters


def test_fp16_is_answered_raw_even_to_who_asked_typed() -> None:
    """It has no typed form, and a message is raw as a whole or not at all."""
    head = (
        b'{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"FP16","shape":'
        b'[1,1],"parameters":{"binary_data_size":2}},{"name":"z","datatype":"INT8","shape":[1],'
        b'"parameters":{"binary_data_size":1}}]}'
    )
    message = answered(Document(len(head), head + b"\x00\x3c\x07"), typed=True)
    assert list(message.raw_output_contents) == [b"\x00\x3c", b"\x07"]


@pytest.mark.parametrize(
    ("datatype", "field", "found", "words"),
    [
        ("INT8", "int_contents", [1, 300], "INT8 is in -128..127"),
        ("UINT16", "uint_contents", [70_000, 1], "UINT16 is in 0..65535"),
        ("INT8", "uint_contents", [1, 2], "INT8 is in int_contents, found uint_contents"),
        ("FP16", "fp32_contents", [1, 2], "has no typed contents"),
        ("BF16", "fp32_contents", [1, 2], "has no typed contents"),
        ("FP32", "fp32_contents", [1], "must hold 2 values, found 1"),
        ("FP32", "fp32_contents", [], "must hold 2 values, found 0"),
    ],
)
def test_typed_contents_that_do_not_fit(
    datatype: str, field: str, found: list[Any], words: str
) -> None:
    """Nothing is cut or wrapped around to fit."""
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[1, 2])
    getattr(tensor.contents, field).extend(found)
    with pytest.raises(InvalidInput, match=r"^inputs\[0\]\.(contents|datatype): ") as raised:
        asked(message)
    assert words in raised.value.message


def test_a_shape_that_is_left_open_is_the_replicas_to_refuse() -> None:
    """The message is about the shape, not about a negative number of values."""
    message = request("FP32", np.ones((1, 2), np.float32), typed=True)
    message.inputs[0].shape[0] = -1
    with pytest.raises(InvalidInput, match=r"inputs\[0\]\.shape: dimensions are at least 1"):
        read(message, "FP32")


def test_parameters_go_through_but_for_the_form_of_tensors() -> None:
    """A message's own fields say where tensors are; REST's words for it mean nothing here."""
    message = request("FP32", np.ones((1, 2), np.float32), typed=False)
    message.parameters["binary_data_output"].bool_param = False
    message.inputs[0].parameters["binary_data_size"].int64_param = 3
    message.outputs.add(name="y").parameters["binary_data"].bool_param = False
    assert read(message, "FP32").binary == {"y"}
    message.outputs[0].parameters["classification"].int64_param = 2
    with pytest.raises(InvalidInput, match="classification: is not offered"):
        read(message, "FP32")


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, {}, "UNAUTHENTICATED"),
        (403, {}, "PERMISSION_DENIED"),
        (429, {"retry-after": "7"}, "RESOURCE_EXHAUSTED"),
        (503, {"retry-after": "1"}, "UNAVAILABLE"),
        (503, {"retry-after": "1", "x-overloaded": "1"}, "RESOURCE_EXHAUSTED"),
        (504, {}, "DEADLINE_EXCEEDED"),
        (500, {}, "INTERNAL"),
        (418, {}, "INTERNAL"),
    ],
)
def test_a_status_in_grpcs_words(status: int, headers: dict[str, str], code: str) -> None:
    """Every refusal of the edge or a replica has its status, its line and when to try again."""
    told = refused(EdgeAnswer(status, headers, b'{"error":"because"}'))
    assert (told.code, told.details) == (grpc.StatusCode[code], "because")
    assert dict(told.trailing).get("retry-after") == headers.get("retry-after")
    assert refused(EdgeAnswer(status, {}, b"<html>")).details == f"the edge answered {status}"


def test_an_edge_that_stays_away_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever: neither without a deadline nor with one."""
    monkeypatch.setattr(edge_client, "PATIENCE_S", 0.1)

    async def ask(within_s: float) -> None:
        async with EdgeClient(tmp_path / "none.sock", 1) as edge:
            await edge.ask("GET", "/v2", within_s=within_s)

    with pytest.raises(Unavailable, match="the edge does not answer"):
        asyncio.run(ask(20.0))
    with pytest.raises(TimeoutError):
        asyncio.run(ask(0.0))


def test_the_generated_messages_are_those_of_the_proto_file() -> None:
    """After a change of the file, `tools/grpc_messages.sh` has to be run."""
    text = Path(pb.__file__).with_name("open_inference.proto").read_text()
    written = re.findall(r"([a-z0-9_]+) = (\d+);", text)
    messages = list(pb.DESCRIPTOR.message_types_by_name.values())
    messages += [
        one for outer in messages for one in outer.nested_types if not one.GetOptions().map_entry
    ]
    generated = [(f.name, str(f.number)) for one in messages for f in one.fields]
    assert sorted(written) == sorted(generated)
    services = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    assert re.findall(r"rpc (\w+)", text) == [method.name for method in services]
