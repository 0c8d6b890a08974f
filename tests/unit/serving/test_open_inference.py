import json
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard_serving.protocols import open_inference
from steelyard_serving.protocols.open_inference import JSON_LENGTH
from steelyard_serving.protocols.tensors import DTYPES, classes

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("n", "INT8", (-1,))),
    outputs=(TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "INT64", (-1,))),
)


def version(signature: Signature = SIGNATURE) -> ModelVersion:
    """A version with this signature."""
    return ModelVersion(
        model="m", version=3, run_id="r", source="s", artifact="a", sha256="0", size_bytes=1,
        variant="fp32", relation="trained", signature=signature, created_us=1,
    )  # fmt: skip


def body(rows: int = 1, **changes: Any) -> bytes:
    """A request that fits, but for the given changes of its first input or its top level."""
    x: dict[str, Any] = {
        "name": "x", "datatype": "FP32", "shape": [rows, 2], "data": [0.5, 1.5] * rows,
    }  # fmt: skip
    n = {"name": "n", "datatype": "INT8", "shape": [rows], "data": [1] * rows}
    top = {key: changes.pop(key) for key in ("id", "outputs", "inputs", "parameters")
           if key in changes}  # fmt: skip
    x.update(changes)
    return orjson.dumps({"inputs": [x, n], **top})


def raw(document: dict[str, Any], *tails: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with raw tensors behind its JSON, and the header that says where it ends."""
    head = orjson.dumps(document)
    return b"".join((head, *tails)), {JSON_LENGTH: str(len(head))}


def of_size(size: Any, **changes: Any) -> dict[str, Any]:
    """An input x of one row whose data are raw."""
    return {"name": "x", "datatype": "FP32", "shape": [1, 2],
            "parameters": {"binary_data_size": size}, **changes}  # fmt: skip


ONE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
PAIR = np.array([[0.5, 1.5]], "<f4").tobytes()


def test_flat_and_nested_data_are_the_same() -> None:
    """Clients may nest the rows or write them one after the other."""
    flat = open_inference.read(body(2), {}, SIGNATURE)
    nested = open_inference.read(body(2, data=[[0.5, 1.5], [0.5, 1.5]]), {}, SIGNATURE)
    assert np.array_equal(flat.inputs["x"], nested.inputs["x"])
    assert (flat.items, flat.wanted, flat.binary) == (2, ("y", "z"), frozenset())


@pytest.mark.parametrize(
    ("request_body", "where"),
    [
        (b"{", "body: is not JSON"),
        (b"[]", "body: must be an object"),
        (b"{}", "inputs: must be a list"),
        (b'{"inputs":[]}', "inputs: must be a list"),
        (b'{"inputs":[1]}', "inputs[0]: must be an object"),
        (body(id=5), "id: "),
        (body(parameters=[]), "parameters: "),
        (body(parameters={"binary_data_output": 1}), "parameters.binary_data_output: must be true"),
        (body(parameters={"sequence_id": 4}), "parameters.sequence_id: is not offered"),
        (body(data=None), "inputs[0].data: must be a list"),
        (body(name="w"), "inputs[0].name: must be one of x, n, found 'w'"),
        (body(name="n", datatype="INT8", shape=[1], data=[1]), "inputs[1].name: n is given twice"),
        (body(inputs=[{"name": "n", "datatype": "INT8", "shape": [1], "data": [1]}]),
         "inputs: x is missing"),
        (body(datatype="FP64"), "inputs[0].datatype: must be FP32, found 'FP64'"),
        (body(shape="1,2"), "inputs[0].shape: "),
        (body(shape=[True, 2]), "inputs[0].shape: "),
        (body(shape=[1, 3]), "inputs[0].shape: must be [-1, 2], found [1, 3]"),
        (body(shape=[2]), "inputs[0].shape: "),
        (body(shape=[0, 2], data=[]), "inputs[0].shape: dimensions are at least 1"),
        (body(shape=[-1, 2]), "inputs[0].shape: "),
        (body(shape=[10**18, 2]), "inputs[0].shape: at most 4096 rows"),
        (body(data="AAAA"), "inputs[0].data: must be a list"),
        (body(data=[1.0]), "inputs[0].data: must hold 2 values, flat or nested, found 1"),
        (body(data=[[1.0], [2.0]]), "inputs[0].data: "),
        (body(data=[[1.0, 2.0], 3.0]), "inputs[0].data: "),
        (body(data=["a", "b"]), "inputs[0].data: holds something that is not FP32"),
        (body(data=["1", "2"]), "inputs[0].data: holds something that is not FP32"),
        (body(data=[None, 1.0]), "inputs[0].data: holds something that is not FP32"),
        (body(data=[True, False]), "inputs[0].data: holds something that is not FP32"),
        (body(data=[1e300, 1.0]), "inputs[0].data: a value does not fit FP32"),
        (body(inputs=[{"name": "n", "datatype": "INT8", "shape": [1], "data": [128]}]),
         "inputs[0].data: INT8 is in -128..127"),
        (body(inputs=[{"name": "n", "datatype": "INT8", "shape": [1], "data": [0.5]}]),
         "inputs[0].data: holds something that is not INT8"),
        (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[NaN,1]}]}', "body: "),
        (body(outputs=[{"name": "w"}]), "outputs[0].name: must be one of y, z, found 'w'"),
        (body(outputs=["y"]), "outputs[0].name: "),
        (body(outputs=5), "outputs: must be a list"),
        (body(outputs=[{"name": "y", "parameters": {"classification": 3}}]),
         "outputs[0].parameters.classification: is not offered"),
        (body(outputs=[{"name": "y", "parameters": {"binary_data": "yes"}}]),
         "outputs[0].parameters.binary_data: must be true or false"),
        (body(2, shape=[1, 2], data=[1.0, 2.0]), "inputs: all need the same number of rows"),
    ],
)  # fmt: skip
def test_a_malformed_request_is_told_which_field(request_body: bytes, where: str) -> None:
    """The message starts with the place of the fault."""
    with pytest.raises(InvalidInput) as raised:
        open_inference.read(request_body, {}, SIGNATURE)
    assert raised.value.message.startswith(where)
    assert len(raised.value.message) < 300


@pytest.mark.parametrize(
    ("tensor", "tail", "length", "words"),
    [
        (of_size(4), PAIR[:4], None, "inputs[0]: must be 8 bytes, found 4"),
        (of_size(9), PAIR, None, "is 9, and 8 bytes are left"),
        (of_size(-1), PAIR, None, "must be a number of bytes, found -1"),
        (of_size("8"), PAIR, None, "must be a number of bytes"),
        (of_size(True), PAIR, None, "must be a number of bytes"),
        (of_size(2**63), PAIR, None, "bytes are left of the body"),
        (of_size(8), PAIR + b"\0", None, "body: has 1 bytes more than"),
        (of_size(8, data=[1, 2]), PAIR, None, "and data exclude each other"),
        (of_size(8, shape=[2**62, 2]), PAIR, None, "at most 4096 rows"),
        (of_size(8), b"\0\0\xc0\x7f" * 2, None, "inputs[0]: a value does not fit FP32"),
        (of_size(8), PAIR, "9999", "Inference-Header-Content-Length: is 9999"),
        (of_size(8), PAIR, "-1", "Inference-Header-Content-Length: must be a whole number"),
        (of_size(8), PAIR, "٣", "Inference-Header-Content-Length: must be a whole number"),
        (of_size(8), PAIR, "9" * 5000, "Inference-Header-Content-Length: must be a whole number"),
        (of_size(8), PAIR, "3", "body: is not JSON"),
    ],
)
def test_raw_tensors_fill_the_body_exactly(
    tensor: dict[str, Any], tail: bytes, length: str | None, words: str
) -> None:
    """A byte too many, too few or in the wrong place is a fault of the request."""
    sent, headers = raw({"inputs": [tensor]}, tail)
    with pytest.raises(InvalidInput) as raised:
        open_inference.read(sent, {JSON_LENGTH: length} if length else headers, ONE)
    assert words in raised.value.message
    assert len(raised.value.message) < 300


def test_raw_data_need_the_header() -> None:
    """Without it nobody knows where the JSON ends."""
    with pytest.raises(InvalidInput, match="needs the header"):
        open_inference.read(orjson.dumps({"inputs": [of_size(8)]}), {}, ONE)


def test_raw_inputs_stand_in_the_order_of_the_document() -> None:
    """The second input's bytes follow the first's, wherever the JSON inputs are."""
    n = {"name": "n", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}}
    sent, headers = raw({"inputs": [n, of_size(8)]}, b"\xff", PAIR)
    inputs = open_inference.read(sent, headers, SIGNATURE).inputs
    assert (inputs["n"].tolist(), inputs["x"].tolist()) == ([-1], [[0.5, 1.5]])


@pytest.mark.parametrize(
    ("spec", "sent", "expected"),
    [
        (TensorSpec("x", "FP32", (-1, 2)), PAIR * 3, [[0.5, 1.5]] * 3),
        (TensorSpec("x", "FP32", (1, 2)), PAIR, [[0.5, 1.5]]),
        (TensorSpec("x", "UINT8", (-1,)), b"\1\2\3", [1, 2, 3]),
        (TensorSpec("x", "BYTES", (-1,)), "grüße".encode(), ["grüße"]),
        (TensorSpec("x", "BYTES", (-1, 1)), b"", [[""]]),
    ],
)
def test_a_header_of_zero_is_one_raw_input(
    spec: TensorSpec, sent: bytes, expected: list[Any]
) -> None:
    """The body is the tensor; its open dimension follows from the number of bytes."""
    request = open_inference.read(sent, {JSON_LENGTH: "0"}, Signature((spec,), ONE.outputs))
    assert request.inputs["x"].tolist() == expected
    assert request.binary == {"y"}


@pytest.mark.parametrize(
    ("specs", "sent", "words"),
    [
        ((*ONE.inputs, *SIGNATURE.inputs[1:]), PAIR, "this takes x, n"),
        (ONE.inputs, PAIR[:7], "multiple of 8 bytes, found 7"),
        (ONE.inputs, b"", "multiple of 8 bytes, found 0"),
        ((TensorSpec("x", "FP32", (-1, -1)),), PAIR, "do not say the shape of x"),
        ((TensorSpec("x", "FP32", (1, 2)),), PAIR * 2, "must be 8 bytes, found 16"),
        ((TensorSpec("x", "BYTES", (-1, 2)),), b"a", "one BYTES value, x has 2"),
        ((TensorSpec("x", "UINT8", (-1,)),), b"\0" * 4097, "at most 4096 rows"),
    ],
)
def test_a_raw_body_that_is_no_tensor_is_refused(
    specs: tuple[TensorSpec, ...], sent: bytes, words: str
) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidInput, match=words):
        open_inference.read(sent, {JSON_LENGTH: "0"}, Signature(specs, ONE.outputs))


@pytest.mark.parametrize("depth", [100, 900, 20_000])
def test_deeply_nested_data_is_refused(depth: int) -> None:
    """Nesting without end is a fault of the request, not of the server, wherever it stands."""
    deep = "[" * depth + "]" * depth
    for name, shape, data in (('"x"', "[1,2]", deep), (deep, "[1,2]", "[1]"), ('"x"', deep, "[1]")):
        tensor = f'{{"name":{name},"datatype":"FP32","shape":{shape},"data":{data}}}'
        with pytest.raises(InvalidInput):
            open_inference.read(f'{{"inputs":[{tensor}]}}'.encode(), {}, SIGNATURE)


def test_a_long_text_among_numbers_takes_no_room() -> None:
    """Values are not spread over an array as wide as the longest of them."""
    data = ["a" * 1_000_000, *[""] * 4095]
    sent = body(2048, data=data)
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="not FP32"):
        open_inference.read(sent, {}, SIGNATURE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


INTEGERS = {f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)}
INTEGERS |= {f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}


def values(datatype: str) -> st.SearchStrategy[Any]:
    """What a tensor of the datatype may hold."""
    if datatype in INTEGERS:
        return st.integers(*INTEGERS[datatype])
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    width: Any = int(datatype[2:])
    return st.floats(allow_nan=False, allow_infinity=False, width=width)


@given(st.data(), st.sampled_from(sorted(DTYPES)), st.booleans(), st.booleans())
def test_valid_requests_come_back_unchanged(
    data: st.DataObject, datatype: str, sent_raw: bool, returned_raw: bool
) -> None:
    """Whatever is valid survives both ways in both forms, value by value, in every type."""
    one = values(datatype)
    rows = data.draw(st.lists(st.tuples(one, one), min_size=1, max_size=5))
    spec = TensorSpec("x", datatype, (-1, 2))
    signature = Signature((spec,), (spec,))
    tensor: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": [len(rows), 2]}
    document = {"id": "a", "inputs": [tensor], "parameters": {"binary_data_output": returned_raw}}
    if sent_raw:
        tail = as_raw(rows, datatype)
        tensor["parameters"] = {"binary_data_size": len(tail)}
        sent, headers = raw(document, tail)
    else:
        tensor["data"] = rows
        sent, headers = json.dumps(document).encode(), {}
    request = open_inference.read(sent, headers, signature)
    answer = open_inference.write(version(signature), request, request.inputs, "p")
    length = int(answer.headers.get(JSON_LENGTH, len(answer.body)))
    told = orjson.loads(answer.body[:length])
    assert (request.items, told["id"]) == (len(rows), "a")
    (output,) = told["outputs"]
    assert output["shape"] == [len(rows), 2]
    if returned_raw:
        assert answer.body[length:] == as_raw(rows, datatype)
        assert output["parameters"] == {"binary_data_size": len(answer.body) - length}
    else:
        expected = [value for row in rows for value in row]
        found = np.array(output["data"], DTYPES[datatype])
        assert np.array_equal(found, np.array(expected, DTYPES[datatype]))
        assert found.tolist() == expected


def as_raw(rows: list[tuple[Any, Any]], datatype: str) -> bytes:
    """Rows as the protocol's raw bytes, written the long way."""
    flat = [value for row in rows for value in row]
    if datatype != "BYTES":
        return np.array(flat, np.dtype(DTYPES[datatype])).tobytes()
    texts = [value.encode() for value in flat]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\2\0\0\0ab", "must be 2 BYTES values"),
        (b"\1\0\0\0a\xff\xff\xff\xff", "must be 2 BYTES values"),
        (b"\1\0\0\0a\1\0\0\0b\0", "must be 2 BYTES values"),
        (b"\1\0\0\0a\1\0", "must be 2 BYTES values"),
        (b"\1\0\0\0a\1\0\0\0\xff", "is not UTF-8"),
    ],
)
def test_text_is_as_long_as_it_says(sent: bytes, words: str) -> None:
    """A length that lies is a fault of the request; text is UTF-8."""
    spec = TensorSpec("x", "BYTES", (-1, 2))
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1, 2],
              "parameters": {"binary_data_size": len(sent)}}  # fmt: skip
    request, headers = raw({"inputs": [tensor]}, sent)
    with pytest.raises(InvalidInput, match=words):
        open_inference.read(request, headers, Signature((spec,), ONE.outputs))


def test_an_answer_names_version_and_prediction() -> None:
    """``model_version`` and ``parameters.prediction_id`` are always there; only asked outputs."""
    request = open_inference.read(body(outputs=[{"name": "z"}]), {}, SIGNATURE)
    outputs = {"y": np.zeros((1, 2), np.float32), "z": np.array([7])}
    answer = open_inference.write(version(), request, outputs, "p1")
    assert answer.headers == {"content-type": "application/json"}
    assert orjson.loads(answer.body) == {
        "model_name": "m", "model_version": "3", "parameters": {"prediction_id": "p1"},
        "outputs": [{"name": "z", "datatype": "INT64", "shape": [1], "data": [7]}],
    }  # fmt: skip


def test_an_output_may_differ_from_the_others_in_form() -> None:
    """``binary_data`` of an output wins over the request's ``binary_data_output``."""
    wanted = [{"name": "z"}, {"name": "y", "parameters": {"binary_data": False}}]
    request = open_inference.read(
        body(outputs=wanted, parameters={"binary_data_output": True}), {}, SIGNATURE
    )
    outputs = {"y": np.ones((1, 2), np.float32), "z": np.array([7])}
    answer = open_inference.write(version(), request, outputs, "p1")
    length = int(answer.headers[JSON_LENGTH])
    z, y = orjson.loads(answer.body[:length])["outputs"]
    assert (z["name"], z["parameters"], y["data"]) == ("z", {"binary_data_size": 8}, [1, 1])
    assert answer.body[length:] == (7).to_bytes(8, "little")
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("binary", [False, True])
def test_an_output_that_is_no_number_is_an_error(binary: bool) -> None:
    """NaN is never turned into null, nor handed on as bytes."""
    sent = body(parameters={"binary_data_output": binary})
    request = open_inference.read(sent, {}, SIGNATURE)
    outputs = {"y": np.array([[np.nan, 1]], np.float32), "z": np.array([7])}
    with pytest.raises(ValueError, match="holds NaN"):
        open_inference.write(version(), request, outputs, "p1")


def test_a_probe_fits_the_signature() -> None:
    """The request of zeros is valid for the model that it probes, also one that takes text."""
    texts = Signature((TensorSpec("t", "BYTES", (-1, 1)),), ONE.outputs)
    for signature in (SIGNATURE, texts):
        sent = open_inference.zero_request(signature)
        assert open_inference.read(sent, {}, signature).items == 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 3), (0, 0)), ((2, 1), None), ((2, 1001), None), ((65, 3), None), ((3,), None)],
)
def test_classes_are_kept_for_small_classifiers_only(
    shape: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    """The audit keeps an arg max a row when the first output looks like class scores."""
    assert classes({"y": np.zeros(shape)}, SIGNATURE) == expected
    assert classes({"y": np.full(shape, "a", object)}, SIGNATURE) is None


def test_metadata_describes_the_tensors() -> None:
    """Clients learn names, types and open dimensions."""
    told = orjson.loads(open_inference.metadata(version()).body)
    assert told["versions"] == ["3"] and told["parameters"] == {"training_envelope": None}
    assert told["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
