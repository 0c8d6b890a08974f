import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard_serving import open_inference

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


def test_flat_and_nested_data_are_the_same() -> None:
    """Clients may nest the rows or write them one after the other."""
    flat = open_inference.parse(body(2), SIGNATURE)
    nested = open_inference.parse(body(2, data=[[0.5, 1.5], [0.5, 1.5]]), SIGNATURE)
    assert np.array_equal(flat.inputs["x"], nested.inputs["x"])
    assert (flat.items, flat.wanted) == (2, ("y", "z"))


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
        (body(2, shape=[1, 2], data=[1.0, 2.0]), "inputs: all need the same number of rows"),
    ],
)  # fmt: skip
def test_a_malformed_request_is_told_which_field(request_body: bytes, where: str) -> None:
    """The message starts with the place of the fault."""
    with pytest.raises(InvalidInput) as raised:
        open_inference.parse(request_body, SIGNATURE)
    assert raised.value.message.startswith(where)
    assert len(raised.value.message) < 300


@pytest.mark.parametrize("depth", [100, 20_000])
def test_deeply_nested_data_is_refused(depth: int) -> None:
    """Nesting without end is a fault of the request, not of the server."""
    data = "[" * depth + "]" * depth
    text = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":{data}}}]}}'
    with pytest.raises(InvalidInput):
        open_inference.parse(text.encode(), SIGNATURE)


RANGES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT64": (-(2**63), 2**63 - 1),
          "UINT64": (0, 2**64 - 1)}  # fmt: skip


@given(st.data(), st.sampled_from([*RANGES, "FP16", "FP32", "FP64", "BOOL"]))
def test_valid_requests_come_back_unchanged(data: st.DataObject, datatype: str) -> None:
    """Whatever is valid survives parse and encode, value by value, in every type."""
    if datatype in RANGES:
        values: st.SearchStrategy[Any] = st.integers(*RANGES[datatype])
    elif datatype == "BOOL":
        values = st.booleans()
    else:
        width = int(datatype[2:])
        values = st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]
    rows = data.draw(st.lists(st.tuples(values, values), min_size=1, max_size=5))
    spec = TensorSpec("x", datatype, (-1, 2))
    signature = Signature((spec,), (spec,))
    tensor = {"name": "x", "datatype": datatype, "shape": [len(rows), 2], "data": rows}
    request = open_inference.parse(json.dumps({"id": "a", "inputs": [tensor]}).encode(), signature)
    answer = orjson.loads(open_inference.encode(version(signature), request, request.inputs, "p"))
    assert request.items == len(rows)
    assert answer["id"] == "a"
    returned = np.array(answer["outputs"][0]["data"], open_inference.DTYPES[datatype])
    assert np.array_equal(returned.reshape(-1, 2), request.inputs["x"])
    assert returned.tolist() == [value for row in rows for value in row]
    assert answer["outputs"][0]["shape"] == [len(rows), 2]


def test_an_answer_names_version_and_prediction() -> None:
    """``model_version`` and ``parameters.prediction_id`` are always there; only asked outputs."""
    request = open_inference.parse(body(outputs=[{"name": "z"}]), SIGNATURE)
    outputs = {"y": np.zeros((1, 2), np.float32), "z": np.array([7])}
    answer = orjson.loads(open_inference.encode(version(), request, outputs, "p1"))
    assert answer == {
        "model_name": "m", "model_version": "3", "parameters": {"prediction_id": "p1"},
        "outputs": [{"name": "z", "datatype": "INT64", "shape": [1], "data": [7]}],
    }  # fmt: skip


def test_an_output_that_json_cannot_say_is_an_error() -> None:
    """NaN is never turned into null."""
    request = open_inference.parse(body(), SIGNATURE)
    outputs = {"y": np.array([[np.nan, 1]], np.float32), "z": np.array([7])}
    with pytest.raises(ValueError, match="holds NaN"):
        open_inference.encode(version(), request, outputs, "p1")


def test_a_probe_fits_the_signature() -> None:
    """The request of zeros is valid for the model that it probes."""
    assert open_inference.parse(open_inference.zero_request(SIGNATURE), SIGNATURE).items == 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 3), (0, 0)), ((2, 1), None), ((2, 1001), None), ((65, 3), None), ((3,), None)],
)
def test_classes_are_kept_for_small_classifiers_only(
    shape: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    """The audit keeps an arg max a row when the first output looks like class scores."""
    assert open_inference.classes({"y": np.zeros(shape)}, SIGNATURE) == expected


def test_metadata_describes_the_tensors() -> None:
    """Clients learn names, types and open dimensions."""
    told = orjson.loads(open_inference.metadata(version()))
    assert told["versions"] == ["3"]
    assert told["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
