"""Clients that we did not write, through the real edge to replicas in this process; no Ray."""

import gc
import itertools
import json
import os
import time
import warnings
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
from starlette.testclient import TestClient
from tritonclient.http import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
)
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from .conftest import MODEL, Client, Place

pytestmark = [
    pytest.mark.integration,
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
ROWS = np.random.default_rng(7).normal(size=(1024, 4)).astype(np.float32)
"""Enough of them that an answer is worth compressing."""


@pytest.fixture
def triton(place: Place) -> Iterator[InferenceServerClient]:
    """Triton's own client."""
    client = InferenceServerClient(place.address)
    yield client
    client.close()
    # It forgets a connection over which it was refused something.
    del client
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def client(place: Place) -> Client:
    """A plain HTTP client."""
    return Client(place.settings)


def _asked(rows: Any, binary: bool) -> list[InferInput]:
    tensor = InferInput("x", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return [tensor]


COMBINATIONS = list(
    itertools.product(("json", "binary"), (None, "gzip", "deflate"), ("json", "binary", "unnamed"))
)


@pytest.mark.parametrize(("sent", "coding", "returned"), COMBINATIONS)
def test_tritons_client_gets_what_onnxruntime_says(
    triton: InferenceServerClient, sent: str, coding: str | None, returned: str
) -> None:
    """All 18 ways to ask: data in JSON or raw, compressed or not, answered in either form."""
    named = [InferRequestedOutput("y", binary_data=returned == "binary")]
    result = triton.infer(
        MODEL, _asked(ROWS, sent == "binary"), request_id="r-1", model_version="2",
        outputs=None if returned == "unnamed" else named,
        request_compression_algorithm=coding, response_compression_algorithm=coding,
    )  # fmt: skip
    assert np.array_equal(result.as_numpy("y"), ROWS * 2)
    told = result.get_response()
    assert (told["id"], told["model_version"]) == ("r-1", "2")
    assert told["parameters"]["prediction_id"]
    assert ("data" in told["outputs"][0]) == (returned == "json")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_large_answer_is_compressed_when_asked(place: Place, coding: str) -> None:
    """What the client accepts is what it gets; a small answer stays as it is."""
    for rows, expected in ((ROWS, coding), (ROWS[:1], None)):
        door = HTTPConnection(place.settings.host, place.settings.edge_port, timeout=30)
        door.request("POST", f"/v2/models/{MODEL}/infer", _body(rows), {"accept-encoding": coding})
        response = door.getresponse()
        response.read()
        door.close()
        assert response.getheader("content-encoding") == expected


def test_tritons_client_knows_the_server(triton: InferenceServerClient) -> None:
    """Health, metadata, statistics and the repository index are read by Triton's own client."""
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready(MODEL) and triton.is_model_ready(MODEL, "2")
    server = triton.get_server_metadata()
    assert server["name"] == "steelyard"
    assert set(server["extensions"]) == {
        "binary_tensor_data", "statistics", "parameters", "model_repository",
    }  # fmt: skip
    described = triton.get_model_metadata(MODEL)
    assert (described["name"], described["versions"]) == (MODEL, ["1"])
    index = triton.get_model_repository_index()
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        (MODEL, "1", "READY"),
        (MODEL, "2", "READY"),
    ]


def test_statistics_count_what_was_inferred(triton: InferenceServerClient) -> None:
    """Items, executions and failures of one version, by Triton's names."""
    before = triton.get_inference_statistics(MODEL, "2")["model_stats"][0]
    triton.infer(MODEL, _asked(ROWS[:5], True), model_version="2")
    with pytest.raises(InferenceServerException):
        triton.infer(MODEL, _asked(ROWS[:5, :3], True), model_version="2")
    after = triton.get_inference_statistics(MODEL, "2")["model_stats"][0]
    assert after["version"] == "2"
    assert after["inference_count"] == before["inference_count"] + 5
    assert after["execution_count"] == before["execution_count"] + 1
    stats = {key: after["inference_stats"][key] for key in ("success", "fail", "compute_infer")}
    assert stats["fail"]["count"] == before["inference_stats"]["fail"]["count"] + 1
    assert stats["success"]["ns"] > stats["compute_infer"]["ns"] > 0
    assert 5 in [one["batch_size"] for one in after["batch_stats"]]


@pytest.mark.parametrize(
    ("act", "status", "words"),
    [
        (lambda t: t.infer(MODEL, _asked(ROWS[:1, :3], True)), "400", "inputs[0].shape: "),
        (lambda t: t.infer("none", _asked(ROWS[:1], True)), "404", "unknown model none"),
        (lambda t: t.infer(MODEL, _asked(ROWS[:1], True), model_version="9"), "404", "scale/9"),
        (lambda t: t.infer(MODEL, _asked(np.full((1, 4), 3e38, np.float32), True),
                           model_version="2"), "500", "inference failed"),
        (lambda t: t.infer(MODEL, _asked(ROWS[:1], True), sequence_id=5), "400", "not offered"),
        (lambda t: t.infer(MODEL, _asked(np.zeros((2**15, 4), np.float32), True)), "413", "larger"),
        (lambda t: t.load_model(MODEL), "501", "not offered"),
        (lambda t: t.get_inference_statistics(), "501", "one model"),
        (lambda t: t.get_system_shared_memory_status(), "501", "over HTTP"),
    ],
)  # fmt: skip
def test_tritons_client_reads_our_refusals(
    triton: InferenceServerClient, act: Any, status: str, words: str
) -> None:
    """An error is a status and one line, in the field where clients look for it."""
    with pytest.raises(InferenceServerException) as raised:
        act(triton)
    assert raised.value.status() == status
    assert words in raised.value.message()


def test_one_raw_input_is_the_whole_body(place: Place) -> None:
    """With a header of 0 the body is the tensor, and the answer is raw as well."""
    door = HTTPConnection(place.settings.host, place.settings.edge_port, timeout=30)
    header = {"Inference-Header-Content-Length": "0"}
    door.request("POST", f"/v2/models/{MODEL}/infer", ROWS.tobytes(), header)
    response = door.getresponse()
    body, length = response.read(), int(response.getheader("inference-header-content-length", ""))
    door.close()
    told = orjson.loads(body[:length])
    assert told["outputs"][0]["shape"] == [1024, 4]
    assert np.array_equal(np.frombuffer(body[length:], "<f4"), ROWS.ravel())


def test_an_answer_says_which_version_and_variant(client: Client) -> None:
    """The caller's trail for the audit is in the headers of each answer, in both protocols."""
    asked = {"content-type": "application/json"}
    for path, body in (
        (f"/v2/models/{MODEL}/infer", _body(ROWS[:1])),
        (f"/models/{MODEL}/invocations", orjson.dumps({"inputs": ROWS[:1].tolist()})),
    ):
        status, headers, _ = client.call("POST", path, body, {**asked})
        assert status == 200
        assert (headers["x-model-version"], headers["x-variant"]) == ("1", "fp32")
        assert len(headers["x-prediction-id"]) == 36
        assert headers["content-type"] == "application/json"


def test_only_ready_versions_when_only_they_are_asked_for(client: Client) -> None:
    """The repository index heeds its one option."""
    for body in (b'{"ready":true}', b'{"ready":false}', b"{}", None):
        status, _, index = client.call("POST", "/v2/repository/index", body)
        assert (status, len(index)) == (200, 2)


def test_mlflows_client_works_unmodified(place: Place) -> None:
    """It pings, asks the version, and gets predictions for arrays and tables."""
    import pandas as pd  # type: ignore[import-untyped]
    from mlflow import __version__
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client: Any = ScoringServerClient(place.settings.host, place.settings.edge_port)  # type: ignore[no-untyped-call]
    client.ping()
    assert client.get_version() == __version__
    for data in (ROWS[:3], pd.DataFrame({"x": ROWS[:3].tolist()})):
        found = client.invoke(data).get_predictions()
        assert np.array_equal(np.array(found["y"].tolist(), np.float32), ROWS[:3])


LISTS = ROWS[:2].tolist()


@pytest.fixture(scope="module")
def mlflow_server(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """What `mlflow models serve` runs, with version 1 as training registers it."""
    import mlflow.onnx
    from mlflow.models import ModelSignature
    from mlflow.pyfunc.scoring_server import init
    from mlflow.types import Schema, TensorSpec

    folder = tmp_path_factory.mktemp("mlflow") / "model"
    takes, gives = (Schema([TensorSpec(np.dtype("float32"), (-1, 4), name)]) for name in "xy")
    mlflow.onnx.save_model(
        onnx.load(place.served[1].artifact), folder, signature=ModelSignature(takes, gives),
        pip_requirements=["onnxruntime"],
    )  # fmt: skip
    before = dict(os.environ)
    yield TestClient(init(mlflow.pyfunc.load_model(str(folder))))
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": {"x": LISTS}},
        {"inputs": LISTS},
        {"instances": LISTS},
        {"instances": [{"x": row} for row in LISTS]},
        {"dataframe_split": {"columns": ["x"], "data": [[row] for row in LISTS]}},
        {"dataframe_split": {"columns": ["id", "x"], "index": [0, 1],
                             "data": [[n, row] for n, row in enumerate(LISTS)]}},
        {"dataframe_records": [{"x": row} for row in LISTS], "params": {}},
        {"inputs": {"x": [[1, 2, 3, 4]]}},
        {"inputs": {"x": [[0.1, 1e-7, 1e20, -0.0]]}},
    ],
)  # fmt: skip
def test_answers_are_mlflows_byte_by_byte(
    place: Place, mlflow_server: TestClient, document: Any
) -> None:
    """The same model behind `mlflow models serve` gives the same bytes."""
    body, asked = json.dumps(document).encode(), {"content-type": "application/json"}
    theirs = mlflow_server.post("/invocations", content=body, headers=asked)
    door = HTTPConnection(place.settings.host, place.settings.edge_port, timeout=30)
    door.request("POST", "/invocations", body, asked)
    ours = door.getresponse()
    assert (ours.status, ours.read()) == (200, theirs.content)
    door.close()


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"[1]", "BAD_REQUEST"),
        (b"{", "BAD_REQUEST"),
        (b'{"inputs":[[1,2,3,4]],"instances":[[1,2,3,4]]}', "BAD_REQUEST"),
        (b'{"predict":[[1,2,3,4]]}', "BAD_REQUEST"),
        (b'{"dataframe_split":[1]}', "BAD_REQUEST"),
        (b'{"dataframe_records":{"x":1}}', "BAD_REQUEST"),
    ],
)
def test_refusals_have_mlflows_status_and_code(
    place: Place, client: Client, mlflow_server: TestClient, document: bytes, code: str
) -> None:
    """Who handles MLflow's errors handles ours; there is never a stack trace in them."""
    asked: dict[str, str | bytes] = {"content-type": "application/json"}
    theirs = mlflow_server.post("/invocations", content=document, headers=asked)  # type: ignore[arg-type]
    status, _, ours = client.call("POST", f"/models/{MODEL}/invocations", document, asked)
    assert (status, ours["error_code"]) == (theirs.status_code, theirs.json()["error_code"])
    assert (status, ours["error_code"], set(ours)) == (400, code, {"error_code", "message"})


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/json; charset=latin-1", "application/json; format=pandas-split"],
)
def test_media_types_are_refused_as_mlflow_refuses_them(
    place: Place, mlflow_server: TestClient, media_type: str
) -> None:
    """415, in plain words."""
    body, asked = b'{"inputs":[[1,2,3,4]]}', {"content-type": media_type}
    theirs = mlflow_server.post("/invocations", content=body, headers=asked)
    door = HTTPConnection(place.settings.host, place.settings.edge_port, timeout=30)
    door.request("POST", "/invocations", body, asked)
    ours = door.getresponse()
    assert ours.status == theirs.status_code == 415
    assert ours.getheader("content-type") == theirs.headers["content-type"]
    assert ours.read()[:20] == theirs.content[:20]
    door.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/invocations", 405, "use POST"),
        ("POST", "/models/none/invocations", 404, "unknown model none"),
        ("POST", f"/models/{MODEL}/other", 404, "no such path"),
        ("GET", "/v2/models/infer", 404, "unknown model infer"),
        ("POST", "/v2/models/scale/stats", 405, "use GET"),
        ("GET", "/v2/repository/index", 405, "use POST"),
        ("GET", "/v2/models/scale/versions/9/stats", 404, "scale/9 is not deployed"),
    ],
)
def test_what_the_edge_refuses(
    client: Client, method: str, path: str, status: int, words: str
) -> None:
    """Refusals of the door are one line, too."""
    found, _, answer = client.call(method, path, b"{}" if method == "POST" else None)
    assert (found, len(answer)) in ((status, 1), (status, 2))
    assert words in (answer.get("error") or answer["message"])


def test_every_answer_of_every_protocol_is_recorded(place: Place, client: Client) -> None:
    """What clients saw under each protocol is in the audit's records, refusals as well."""
    asked: dict[str, str | bytes] = {"content-type": "application/json"}
    rows = orjson.dumps({"inputs": LISTS})
    told = [
        client.call("POST", f"/v2/models/{MODEL}/infer", _body(ROWS[:2])),
        client.call("POST", f"/v2/models/{MODEL}/infer", b"\x1f\x8b", {"content-encoding": "gzip"}),
        client.call("POST", "/invocations", rows, asked),
        client.call("POST", f"/models/{MODEL}/invocations", b"{}", asked),
    ]
    seen = {headers["x-prediction-id"]: status for status, headers, _ in told}
    assert sorted(seen.values()) == [200, 200, 400, 400]
    mine: dict[str, int] = {}
    deadline = time.monotonic() + 30
    while mine != seen and time.monotonic() < deadline:
        time.sleep(0.05)
        files = sorted(place.settings.spool_dir.glob("*.jsonl"))
        facts = [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
        mine = {f["prediction_id"]: f["status"] for f in facts
                if f["fact"] == "prediction" and f["prediction_id"] in seen}  # fmt: skip
    assert mine == seen


def _body(rows: Any) -> bytes:
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32",
              "data": rows.ravel().tolist()}  # fmt: skip
    return orjson.dumps({"inputs": [tensor]})
