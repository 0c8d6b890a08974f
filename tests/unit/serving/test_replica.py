import asyncio
import hmac
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import orjson
import pytest
from tests.spooled import spooled

from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_digest import digest_method
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.http_connection import Answer, Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.pipeline import Checks
from steelyard_serving.replica import LoadedModel
from steelyard_serving.secret_files import audit_key

Make = Callable[[int], ServedVersion]
EDGE = {
    "x-prediction-id": "p1", "x-steelyard-arm": "canary", "x-steelyard-bucket": "17",
    "x-steelyard-generation": "4", "x-steelyard-lineage": "r1", "x-steelyard-unit": "alice",
}  # fmt: skip


def rows(settings: Settings, fact: str) -> list[dict[str, Any]]:
    """Spooled facts of one kind, in order."""
    files = sorted(settings.spool_dir.glob("*.jsonl"))
    lines = [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
    return [line for line in lines if line["fact"] == fact]


def ask(
    ingress: Ingress,
    body: bytes | None,
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Answer:
    """One inference request; no body: the door found it too large."""
    request = Request(method, "/v/scale/3/infer", headers or {}, body, time.perf_counter_ns())
    return asyncio.run(ingress.answer(request))


def body(*values: float) -> bytes:
    """A request with rows of two."""
    shape = [len(values) // 2, 2]
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": list(values)}
    return orjson.dumps({"inputs": [tensor]})


def test_a_loaded_version_computes(make_served: Make) -> None:
    """The model answers with its own factor."""
    served = make_served(3)
    outputs = LoadedModel(served.version, served.artifact).run({"x": np.ones((1, 2), np.float32)})
    assert outputs["y"].tolist() == [[3.0, 3.0]]


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_a_version_is_answered_by_the_runtime_that_it_names(make_served: Make) -> None:
    """The same bytes in OpenVINO answer the same, and an answer outlives the next one."""
    served = make_served(3)
    model = LoadedModel(replace(served.version, runtime="openvino"), served.artifact)
    first = model.run({"x": np.ones((1, 2), np.float32)})["y"]
    second = model.run({"x": np.full((2, 2), 2, np.float32)})["y"]
    assert first.tolist() == [[3.0, 3.0]] and second.tolist() == [[6.0, 6.0], [6.0, 6.0]]
    assert model.steady_ns > 0


def test_a_replica_without_the_runtime_says_what_is_missing(
    make_served: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deployment fails with the library's name, not in another runtime."""
    monkeypatch.delitem(sys.modules, "steelyard.adapters.openvino_session", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    served = make_served(3)
    with pytest.raises(Refused, match="openvino is not installed here"):
        LoadedModel(replace(served.version, runtime="openvino"), served.artifact)


def test_changed_bytes_are_refused_before_they_are_loaded(make_served: Make) -> None:
    """One byte more than was registered, and the version does not start."""
    served = make_served(1)
    served.artifact.write_bytes(served.artifact.read_bytes() + b"\0")
    with pytest.raises(Refused, match="registered was"):
        LoadedModel(served.version, served.artifact)


def test_a_type_that_is_not_served_is_refused(make_served: Make) -> None:
    """Numpy has no BF16; the version says so when it loads."""
    served = make_served(1)
    brief = (TensorSpec("x", "BF16", (-1,)),)
    version = replace(served.version, signature=Signature(brief, brief))
    with pytest.raises(Refused, match="BF16"):
        LoadedModel(version, served.artifact)


def test_each_answer_leaves_one_record_and_windows_add_up(
    settings: Settings, make_served: Make
) -> None:
    """Windows join without gap, count what was answered, and the resource ends with the last."""
    served = make_served(3)
    meter = Meter(settings, served.version)
    ingress = Ingress(LoadedModel(served.version, served.artifact), meter, 2048)
    answer = ask(ingress, body(1, 2, 3, 4), EDGE)
    meter.flush()
    assert (answer.status, answer.headers["x-prediction-id"]) == (200, "p1")
    assert orjson.loads(answer.body)["outputs"][0]["data"] == [3, 6, 9, 12]
    assert ask(ingress, b"no").status == 400
    assert ask(ingress, body(3e38, 0)).status == 520
    assert ask(ingress, None).status == 413
    meter.stop()
    meter.stop()

    supply, usage = rows(settings, "supply"), rows(settings, "usage")
    assert [w["seq"] for w in sorted(supply + usage, key=lambda w: w["seq"])] == [1, 2, 3, 4]
    assert supply[0]["window_end_us"] == supply[1]["window_start_us"]
    assert all(w["reserved_us"] == w["window_end_us"] - w["window_start_us"] for w in supply)
    started = rows(settings, "resource")[0]["started_us"]
    ended = rows(settings, "resource_end")[0]["ended_us"]
    assert sum(w["reserved_us"] for w in supply) == ended - started
    assert [(u["requests"], u["errors"], u["items"], u["flop"]) for u in usage] == [
        (1, 0, 2, 4),
        (3, 1, 0, 0),
    ]
    records = rows(settings, "prediction")
    assert [r["status"] for r in records] == [200, 400, 500, 413]
    assert sum(r["busy_ns"] for r in records) == sum(u["busy_ns"] for u in usage)
    first = records[0]
    assert (first["arm"], first["bucket"], first["lineage"], first["generation"]) == (
        "canary", 17, "r1", 4,
    )  # fmt: skip
    assert first["classes"] == [1, 1]
    assert first["unit_sha256"] and first["inputs_sha256"]
    assert records[1]["arm"] == "pinned"
    assert records[1]["unit_sha256"] is None
    assert records[2]["error"] == "inference failed"


def test_a_record_holds_all_that_the_audit_asks_for(settings: Settings, make_served: Make) -> None:
    """What the collector reads is a whole record: who answered, why, from what, what it said."""
    served = make_served(3)
    meter = Meter(settings, served.version)
    ingress = Ingress(LoadedModel(served.version, served.artifact), meter, 2048)
    sent = body(1, 2, 4, 3)
    answer = ask(ingress, sent, EDGE)
    meter.stop()
    key = audit_key(settings)

    def keyed(data: bytes) -> str:
        return hmac.digest(key, data, "sha256").hex()

    (record,) = spooled(settings, PredictionRecord)
    assert record.received_us > 0
    assert record.busy_ns > 0
    assert record == PredictionRecord(
        prediction_id="p1", model="scale", version=3, sha256=served.version.sha256,
        resource_id=meter.resource_id, arm="canary", lineage="r1", generation=4, bucket=17,
        received_us=record.received_us, busy_ns=record.busy_ns, items=2, status=200,
        unit_sha256=keyed(b"alice"), inputs_sha256=keyed(sent), classes=(1, 0), error=None,
        latency_us=record.latency_us, batch=1, outputs_sha256=keyed(answer.body),
        digest_method=digest_method(key),
    )  # fmt: skip
    assert record.latency_us is not None
    assert record.latency_us * 1_000 >= record.busy_ns


def test_a_probe_is_time_spent_but_no_request(settings: Settings, make_served: Make) -> None:
    """Our own probes are booked as warm-up and leave no audit record."""
    served, checks = make_served(1), Checks(mark="ours")
    meter = Meter(settings, served.version)
    ingress = Ingress(LoadedModel(served.version, served.artifact), meter, 2048, checks)
    ours = {"x-steelyard-probe": "1", "x-steelyard-internal": "ours"}
    assert ask(ingress, body(1, 2), ours).status == 200
    meter.stop()
    assert [(u["activity"], u["requests"]) for u in rows(settings, "usage")] == [("warmup", 0)]
    assert rows(settings, "prediction") == []


@pytest.mark.parametrize("mark", [{}, {"x-steelyard-internal": "guessed"}])
def test_who_only_says_to_be_a_probe_is_counted(
    settings: Settings, make_served: Make, mark: dict[str, str]
) -> None:
    """Others of this machine reach the door; without our mark they do not pass unrecorded."""
    served, checks = make_served(1), Checks(mark="ours")
    meter = Meter(settings, served.version)
    ingress = Ingress(LoadedModel(served.version, served.artifact), meter, 2048, checks)
    assert ask(ingress, body(1, 2), {"x-steelyard-probe": "1", **mark}).status == 200
    meter.stop()
    assert [(u["activity"], u["requests"]) for u in rows(settings, "usage")] == [("serve", 1)]
    assert len(rows(settings, "prediction")) == 1


def test_unknown_flops_stay_unknown(settings: Settings, make_served: Make) -> None:
    """A version without a FLOP count has None in its windows, not 0."""
    version = replace(make_served(1).version, flops=None)
    meter = Meter(settings, version)
    meter.add("serve", busy_ns=5, items=1, requests=1)
    meter.stop()
    assert rows(settings, "usage")[0]["flop"] is None


def test_windows_say_what_was_computed_in(settings: Settings, make_served: Make) -> None:
    """The datatype of the version's profile, as peaks are written; None when it is not known."""
    served = make_served(1).version
    assert served.flops is not None
    profile = replace(served.flops, datatype="INT8")
    for version in (served, replace(served, flops=profile)):
        meter = Meter(settings, version)
        meter.add("serve", busy_ns=5, items=1, requests=1)
        meter.stop()
    assert {u["datatype"] for u in rows(settings, "usage")} == {None, "int8"}


def test_every_prediction_has_its_own_id(settings: Settings, make_served: Make) -> None:
    """Requests that did not pass the edge get an id from the replica, each its own."""
    served = make_served(1)
    meter = Meter(settings, served.version)
    ingress = Ingress(LoadedModel(served.version, served.artifact), meter, 2048)
    for n in range(50):
        ask(ingress, body(1, n))
    meter.stop()
    assert len({r["prediction_id"] for r in rows(settings, "prediction")}) == 50
