"""Triton's gRPC client through the real door and the real edge to replicas in this process."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import orjson
import psutil
import pytest
from tests.free_ports import free_ports

from steelyard.domain.api_key import ApiKey
from steelyard.domain.traffic import Route, Share, in_order
from steelyard.settings import Settings
from steelyard_serving.open_inference_grpc import open_inference_pb2
from steelyard_serving.processes import grpc_door
from steelyard_serving.traffic_router import EdgeRouter

from .certificate import self_signed
from .conftest import MODEL, Place

pytestmark = pytest.mark.integration
ROWS = np.random.default_rng(9).normal(size=(1024, 4)).astype(np.float32)
CHILD = Path(__file__).with_name("triton_grpc_child.py")
Ask = Callable[..., dict[str, Any]]


Wait = Callable[[Callable[[], bool], float], None]


@pytest.fixture(scope="module")
def door(place: Place, wait: Wait) -> Iterator[str]:
    """The address of a running gRPC door."""
    with _door(place.settings, wait) as address:
        yield address


@contextmanager
def _door(settings: Settings, wait: Wait) -> Iterator[str]:
    """A door while it runs; it ends when it is asked to, and wrote no trace into its log."""
    spec = grpc_door(settings)
    told = settings.log_dir / f"grpc-{settings.grpc_port}.log"
    with told.open("ab") as log:
        process = subprocess.Popen(
            spec.command, env={**os.environ, **spec.environment}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    port, listening = settings.grpc_port, psutil.Process(process.pid).net_connections
    try:
        wait(lambda: any(c.laddr.port == port and c.status == "LISTEN" for c in listening()), 20)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    assert (code, told.read_text()) == (0, "")


@pytest.fixture(scope="module")
def ask(door: str) -> Iterator[Ask]:
    """Triton's client in a child process, asked by the name of a call."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), door], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    into, out = child.stdin, child.stdout

    def ask(call: str, **asked: Any) -> dict[str, Any]:
        into.write(json.dumps({"call": call, **asked}) + "\n")
        into.flush()
        told = json.loads(out.readline())
        assert isinstance(told, dict)
        return told

    yield ask
    into.close()
    assert child.wait(20) == 0
    out.close()


def _sent(rows: Any) -> str:
    return base64.b64encode(rows.tobytes()).decode()


def _read(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(-1, 4)


def _typed(rows: Any, **tensor: Any) -> list[dict[str, Any]]:
    return [{"name": "x", "datatype": "FP32", "shape": list(rows.shape),
             "contents": {"fp32_contents": rows.ravel().tolist()}, **tensor}]  # fmt: skip


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("named", [True, False])
def test_tritons_client_gets_what_onnxruntime_says(
    place: Place, ask: Ask, coding: str | None, named: bool
) -> None:
    """Raw contents, compressed or not, with the outputs named or not: the same bits."""
    session = onnxruntime.InferenceSession(place.served[2].artifact)
    told = ask("infer", data=_sent(ROWS), model=MODEL, named=named, model_version="2",
               request_id="r-1", compression_algorithm=coding)  # fmt: skip
    assert np.array_equal(_read(told["rows"]), session.run(["y"], {"x": ROWS})[0])
    assert (told["model"], told["version"], told["id"], told["raw"]) == (MODEL, "2", "r-1", 1)
    assert len(told["prediction_id"]) == 36


def test_typed_contents_are_answered_typed(place: Place, ask: Ask) -> None:
    """Who writes numbers into the message gets numbers back, the same that raw bytes would be."""
    session = onnxruntime.InferenceSession(place.served[1].artifact)
    told = ask("message", model_name=MODEL, id="t", inputs=_typed(ROWS[:7]))
    assert np.array_equal(_read(told["rows"]), session.run(["y"], {"x": ROWS[:7]})[0])
    assert (told["version"], told["id"], told["raw"]) == ("1", "t", 0)


def test_what_is_asked_without_inferring(ask: Ask) -> None:
    """Health, readiness and metadata; a model that is not there is not ready, and no error."""
    assert ask("about", model=MODEL) == {
        "live": True, "ready": True, "model": True, "version": True, "none": False, "ninth": False,
        "server": ["steelyard", ["parameters"]],
        "metadata": [MODEL, ["1"], "onnx_onnxv1"],
        "tensors": [["x", "FP32", [-1, 4]], ["y", "FP32", [-1, 4]]],
    }  # fmt: skip


ONE = _sent(ROWS[:1])
RAW = {"name": "x", "datatype": "FP32", "shape": [1, 4]}


@pytest.mark.parametrize(
    ("call", "asked", "code", "words"),
    [
        ("infer", {"data": ONE, "model": "none"}, "NOT_FOUND", "unknown model none"),
        ("infer", {"data": ONE, "model": "../x"}, "NOT_FOUND", "unknown model ../x"),
        ("infer", {"data": ONE, "model": MODEL, "model_version": "9"}, "NOT_FOUND", "scale/9"),
        ("metadata", {"model": "none"}, "NOT_FOUND", "unknown model none"),
        ("metadata", {"model": MODEL, "version": "two"}, "NOT_FOUND", "scale/two"),
        ("infer", {"data": ONE, "model": MODEL, "sequence_id": 5}, "INVALID_ARGUMENT",
         "not offered"),
        ("message", {"model_name": MODEL, "inputs": _typed(ROWS[:1, :3])}, "INVALID_ARGUMENT",
         "inputs[0].shape: "),
        ("message", {"model_name": MODEL, "inputs": _typed(ROWS[:2], shape=[1, 4])},
         "INVALID_ARGUMENT", "must hold 4 values, found 8"),
        ("message", {"model_name": MODEL, "inputs": _typed(ROWS[:1], datatype="FP64")},
         "INVALID_ARGUMENT", "FP64 is in fp64_contents, found fp32_contents"),
        ("message", {"model_name": MODEL, "inputs": _typed(ROWS[:1]), "raw": [ONE]},
         "INVALID_ARGUMENT", "exclude each other"),
        ("message", {"model_name": MODEL, "inputs": [RAW], "raw": [ONE, ONE]},
         "INVALID_ARGUMENT", "must be one an input, 1, found 2"),
        ("message", {"model_name": MODEL, "inputs": [RAW], "raw": [_sent(ROWS[:2])]},
         "INVALID_ARGUMENT", "must be 16 bytes, found 32"),
        ("message", {"model_name": MODEL, "inputs": []}, "INVALID_ARGUMENT", "list of tensors"),
        ("garbage", {"method": "ModelInfer", "data": "//////////8="}, "INVALID_ARGUMENT",
         "no ModelInferRequest"),
        ("garbage", {"method": "RepositoryIndex", "data": ""}, "UNIMPLEMENTED", ""),
        ("infer", {"data": _sent(np.full((1, 4), 3e38, np.float32)), "model": MODEL,
                   "model_version": "2"}, "INTERNAL", "inference failed"),
        ("infer", {"data": _sent(np.zeros((2**15, 4), np.float32)), "model": MODEL},
         "RESOURCE_EXHAUSTED", "larger"),
        ("message", {"model_name": MODEL, "inputs": _typed(ROWS[:1]), "timeout": 0.0},
         "DEADLINE_EXCEEDED", ""),
    ],
)  # fmt: skip
def test_refusals_are_grpcs_own(
    ask: Ask, call: str, asked: dict[str, Any], code: str, words: str
) -> None:
    """Each has the status that clients act on, and the line that REST would have told."""
    told = ask(call, **asked)
    assert told.get("code") == code, told
    assert words in told["words"]


def test_an_answer_just_below_the_limit_arrives(ask: Ask) -> None:
    """Larger than any buffer on its way."""
    rows = np.resize(ROWS, (4096, 4))
    assert np.array_equal(_read(ask("infer", data=_sent(rows), model=MODEL)["rows"]), rows)
    assert np.array_equal(
        _read(ask("message", model_name=MODEL, inputs=_typed(rows))["rows"]), rows
    )


def test_a_unit_keeps_its_version(place: Place, ask: Ask) -> None:
    """The metadata `x-unit-id` decides as the header does, and the answer says what it decided."""
    generation = 10
    for weight_bp, version in ((10_000, "2"), (0, "1")):
        generation += 1
        shares = in_order([Share(2, 0, weight_bp)])
        route = Route(MODEL, 1, generation, shares, "r1")
        EdgeRouter(place.settings).apply({MODEL: route}, frozenset({(MODEL, 1), (MODEL, 2)}))
        told = ask(
            "message", model_name=MODEL, inputs=_typed(ROWS[:1]), metadata={"x-unit-id": "anna"}
        )
        assert told["version"] == told["trailing"]["x-model-version"] == version
        assert told["trailing"]["x-prediction-id"] == told["prediction_id"]
        assert told["trailing"]["x-variant"] == "fp32"


def test_each_call_is_recorded_by_its_id(place: Place, ask: Ask, wait: Wait) -> None:
    """What clients were told in the trailing metadata is in the audit, refusals as well."""
    told = [
        ask("message", model_name=MODEL, inputs=_typed(ROWS[:2]), metadata={"x-unit-id": "bo"}),
        ask("message", model_name=MODEL, inputs=_typed(ROWS[:1, :3])),
    ]
    seen = {one["trailing"]["x-prediction-id"] for one in told}
    found: dict[str, dict[str, Any]] = {}

    def recorded() -> bool:
        files = sorted(place.settings.spool_dir.glob("*.jsonl"))
        facts = [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
        found.update({f["prediction_id"]: f for f in facts if f.get("prediction_id") in seen})
        return found.keys() == seen

    wait(recorded, 30)
    first, second = (found[one["trailing"]["x-prediction-id"]] for one in told)
    assert (first["status"], first["items"], second["status"]) == (200, 2, 400)
    assert first["unit_sha256"] and second["unit_sha256"] is None


def test_a_keys_limit_holds_over_grpc(place: Place, ask: Ask) -> None:
    """The key in the metadata is the edge's to count, and the refusal says when to try again."""
    text = f"sy_{'k' * 10}_{'s' * 43}"
    digest = hashlib.sha256(b"s" * 43).hexdigest()
    router = EdgeRouter(place.settings)
    router.limit({"k" * 10: ApiKey("k" * 10, "ada", digest, 1, requests_per_minute=1)})
    asked = {"model_name": MODEL, "metadata": {"authorization": f"Bearer {text}"}}
    # Between the first two a minute may begin, but not between all three.
    told = [ask("message", inputs=_typed(ROWS[:1]), **asked) for _ in range(3)]
    router.limit({})
    assert told[-1].get("code") == "RESOURCE_EXHAUSTED", told
    assert "1 requests a minute" in told[-1]["words"]
    assert 1 <= int(told[-1]["trailing"]["retry-after"]) <= 60


def test_calls_outlive_a_restart_of_the_edge(place: Place, ask: Ask) -> None:
    """A connection that died with the edge, and an edge just starting, cost nothing but time."""
    assert "rows" in ask("infer", data=ONE, model=MODEL)
    place.edge.kill()
    late = ask("message", model_name=MODEL, inputs=_typed(ROWS[:1]), timeout=0.3)
    assert late["code"] == "DEADLINE_EXCEEDED"
    again = threading.Thread(target=place.edge.start)
    again.start()
    told = [ask("infer", data=ONE, model=MODEL) for _ in range(2)]
    again.join()
    assert all("rows" in one for one in told), told


def test_with_a_certificate_the_door_speaks_tls_alone(
    place: Place, wait: Wait, tmp_path: Path
) -> None:
    """It is the edge's; who does not trust it, or does not encrypt, is not answered."""
    pem, chain = tmp_path / "whole.pem", self_signed(tmp_path / "whole.pem")
    (port,) = free_ports(1)
    settings = place.settings.model_copy(update={"tls_certificate": str(pem), "grpc_port": port})
    with _door(settings, wait) as address:
        trusting = grpc.secure_channel(address, grpc.ssl_channel_credentials(chain))
        others = (
            grpc.insecure_channel(address),
            grpc.secure_channel(
                address, grpc.ssl_channel_credentials(self_signed(tmp_path / "other.pem"))
            ),
        )
        assert _live(trusting).live
        for one in others:
            with pytest.raises(grpc.RpcError) as raised:
                _live(one)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        for one in (trusting, *others):
            one.close()


def _live(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        "/inference.GRPCInferenceService/ServerLive",
        request_serializer=open_inference_pb2.ServerLiveRequest.SerializeToString,
        response_deserializer=open_inference_pb2.ServerLiveResponse.FromString,
    )(open_inference_pb2.ServerLiveRequest(), timeout=20)


def test_the_messages_are_tritons(ask: Ask) -> None:
    """Every field of every message of ours has the name, number and type that Triton gives it."""
    theirs, ours = ask("fields"), _fields(open_inference_pb2.DESCRIPTOR.message_types_by_name)
    assert len(ours) == 23
    assert {name: theirs[name] for name in ours} == ours


def _fields(messages: Any) -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = {}
    for one in messages.values():
        found[one.full_name] = [[f.name, f.number, f.type, f.is_repeated] for f in one.fields]
        found |= _fields(one.nested_types_by_name)
    return found
