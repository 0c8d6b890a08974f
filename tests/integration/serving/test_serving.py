"""The whole way of a request: client, edge, Ray Serve, replica, spool."""

import hmac
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from http.client import HTTPException
from typing import Any

import orjson
import psutil
import pytest

from steelyard.domain.traffic import bucket, choose
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.secret_files import audit_key, bucket_key

pytestmark = [pytest.mark.alone, pytest.mark.integration, pytest.mark.usefixtures("applications")]
ROW = [[1.0, 2.0, 3.0, 4.0]]


def test_a_prediction_says_who_made_it(client: Any, route: Any) -> None:
    """An answer names its version and its prediction, in the body and in the headers."""
    route(0)
    status, headers, body = client.infer(ROW)
    assert status == 200
    assert body["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]
    assert body["model_version"] == headers["x-model-version"] == "1"
    assert body["parameters"]["prediction_id"] == headers["x-prediction-id"]
    assert not [name for name in headers if name.startswith("x-steelyard")]


def test_the_protocols_calls(client: Any, route: Any) -> None:
    """Health, server, model and readiness calls answer what clients of the protocol expect."""
    route(0)
    assert client.call("GET", "/v2/health/live")[0] == 200
    assert client.call("GET", "/v2/health/ready")[::2] == (200, {"live": True, "ready": True})
    assert client.call("GET", "/v2")[2]["name"] == "steelyard"
    assert client.call("GET", "/v2/models/scale")[2]["inputs"][0]["shape"] == [-1, 4]
    assert client.call("GET", "/v2/models/scale/ready")[2] == {"name": "scale", "ready": True}
    assert [one["version"] for one in client.call("POST", "/v2/repository/index")[2]] == [
        "1",
        "2",
        "3",
    ]
    before = client.call("GET", "/v2/models/scale/stats")[2]["model_stats"][0]
    assert client.infer(ROW * 3)[0] == 200
    after = client.call("GET", "/v2/models/scale/stats")[2]["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 3
    asked, json = orjson.dumps({"inputs": ROW}), {"content-type": "application/json"}
    scored = client.call("POST", "/models/scale/invocations", asked, json)
    assert scored[::2] == (200, {"predictions": {"y": ROW}})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v2/models/scale/infer", b"no", 400, "body: is not JSON"),
        ("POST", "/v2/models/scale/infer",
         b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
         400, "inputs[0].shape: "),
        ("POST", "/v2/models/none/infer", b"{}", 404, "unknown model none"),
        ("POST", "/v2/models/scale/versions/9/infer", b"{}", 404, "scale/9 is not deployed"),
        ("GET", "/elsewhere", None, 404, "no such path"),
        ("GET", "/v2/models/scale/infer", None, 405, "use POST"),
        ("POST", "/v2/models/scale", b"{}", 405, "use GET"),
    ],
)  # fmt: skip
def test_what_is_refused(
    client: Any, route: Any, method: str, path: str, body: bytes, status: int, words: str
) -> None:
    """A refusal has the right status and one line that names the fault."""
    route(0)
    found, _, answer = client.call(method, path, body)
    assert (found, list(answer)) == (status, ["error"])
    assert words in answer["error"]


def test_a_body_that_is_too_large_is_refused_at_the_door(
    ray_cluster: Settings, client: Any, route: Any
) -> None:
    """A body over the limit gets 413 from its length alone, and when it arrives in chunks."""
    route(0)
    limit = ray_cluster.body_limit_bytes
    with socket.create_connection((ray_cluster.host, ray_cluster.edge_port), timeout=30) as door:
        door.sendall(
            b"POST /v2/models/scale/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
            % (limit + 1)
        )
        assert door.recv(200).startswith(b"HTTP/1.1 413")
    with socket.create_connection((ray_cluster.host, ray_cluster.edge_port), timeout=30) as door:
        door.sendall(
            b"POST /v2/models/scale/infer HTTP/1.1\r\nhost: x\r\n"
            b"transfer-encoding: chunked\r\n\r\n%x\r\n" % (limit + 1)
        )
        door.sendall(b" " * (limit + 1) + b"\r\n0\r\n\r\n")
        assert door.recv(200).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("weight_bp", [0, 500, 10_000])
def test_every_unit_lands_where_the_rule_says(
    ray_cluster: Settings, client: Any, route: Any, weight_bp: int
) -> None:
    """The edge's C arithmetic and the Python rule choose the same version for each unit."""
    live = route(weight_bp)
    key = bucket_key(ray_cluster)
    for unit in [f"unit {n}" for n in range(200)] + ["ünïcode", "a|b"]:
        _, expected = choose(live, bucket(key, live.lineage, unit))
        status, headers, _ = client.infer(ROW, unit)
        assert (status, headers["x-model-version"]) == (200, str(expected)), unit


def test_a_version_can_be_asked_for_by_number(client: Any, route: Any) -> None:
    """A pinned request gets its version whatever the weights are."""
    route(0)
    status, headers, body = client.infer(ROW, path="/v2/models/scale/versions/2")
    assert (status, headers["x-model-version"]) == (200, "2")
    assert body["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0]


def test_a_version_of_another_runtime_answers_likewise(client: Any, route: Any) -> None:
    """A replica runs its version by the runtime that it was measured with."""
    route(0)
    status, headers, body = client.infer(ROW, path="/v2/models/scale/versions/3")
    assert (status, headers["x-model-version"]) == (200, "3")
    assert body["outputs"][0]["data"] == [3.0, 6.0, 9.0, 12.0]


def test_a_failed_inference_is_one_line_and_no_traceback(client: Any, route: Any) -> None:
    """When an answer cannot be given, the client gets 500 and a plain error, once."""
    route(10_000)
    status, headers, body = client.infer([[3e38, 0, 0, 0]])
    assert (status, body) == (500, {"error": "inference failed"})
    assert headers["x-model-version"] == "2"


def test_a_restarted_edge_keeps_the_weights(client: Any, route: Any, edge: Any) -> None:
    """An edge that was killed serves the last weights before anybody tells it."""
    route(10_000)
    edge.kill()
    edge.start()
    assert client.infer(ROW)[1]["x-model-version"] == "2"


def test_the_ledgers_facts_equal_what_the_client_saw(
    client: Any, route: Any, facts: Any, wait: Any, ray_cluster: Settings
) -> None:
    """Each answer is in exactly one record, and windows count the same requests and items."""
    route(5000)
    answers = [client.infer(ROW * 3, f"u{n}") for n in range(40)]
    answers.append(client.call("POST", "/v2/models/scale/infer", b"no"))
    seen = {headers["x-prediction-id"]: status for status, headers, _ in answers}
    assert len(seen) == 41

    def recorded() -> dict[str, int]:
        ids = [r for r in _predictions(facts()) if r["prediction_id"] in seen]
        return {r["prediction_id"]: r["status"] for r in ids}

    wait(lambda: recorded() == seen, 10)
    rows = facts()
    # A copy to a shadow is on record, and no request.
    records = [r for r in _predictions(rows) if r["arm"] != "shadow"]
    assert len(records) == len({r["prediction_id"] for r in records})
    usage = _usage(rows)
    assert usage["requests"] == len(records)
    assert usage["items"] == sum(r["items"] for r in records if r["status"] == 200)
    assert usage["flop"] == 4 * usage["items"]
    mine = next(r for r in records if r["prediction_id"] == answers[0][1]["x-prediction-id"])
    assert mine["unit_sha256"] == hmac.digest(audit_key(ray_cluster), b"u0", "sha256").hex()
    assert (mine["lineage"], mine["items"]) == ("r1", 3)


def test_a_replica_killed_under_load_is_back_within_seconds(
    client: Any, route: Any, wait: Any
) -> None:
    """Requests in flight when a replica dies are tried again; nobody sees a wrong answer."""
    route(0)
    with _Load(client) as load:
        wait(lambda: len(load.results) > 20, 20)
        _kill("ServeReplica:scale-v1")
        count = len(load.results)
        wait(lambda: len(load.results) > count + 50, 40)
    load.check()


def test_ray_serve_carries_no_request(
    ray_cluster: Settings, client: Any, route: Any, wait: Any
) -> None:
    """Its controller is killed and no request notices; there is no proxy of its own to kill."""
    route(0)
    assert not [one for one in psutil.process_iter(["cmdline"]) if _is_a_proxy(one)]
    with _Load(client) as load:
        wait(lambda: len(load.results) > 20, 20)
        _kill("ServeController")
        count = len(load.results)
        wait(lambda: len(load.results) > count + 200, 60)
    assert {status for status, _ in load.results} == {200}


def test_changed_bytes_are_never_served(
    applications: Any, versions: Any, ray_cluster: Settings, wait: Any
) -> None:
    """A version whose artefact does not have the registered digest fails and says why."""
    path = ray_cluster.cache_dir / "changed.onnx"
    path.write_bytes(versions[1].artifact.read_bytes() + b" ")
    version = replace(versions[1].version, version=4)
    applications.ensure(ServedVersion(version, path))
    wait(lambda: applications.states()["scale", 4].phase == "failed", 60)
    assert "registered was" in applications.states()["scale", 4].reason
    applications.remove("scale", 4)
    wait(lambda: ("scale", 4) not in applications.states(), 60)


def test_a_replica_loads_no_training_library() -> None:
    """What a replica imports holds neither torch nor MLflow nor pandas nor SQLAlchemy."""
    code = (
        "import sys, steelyard_serving.deployment;"
        "unwanted = ('torch', 'mlflow', 'sqlalchemy', 'onnx', 'pandas', 'pyarrow');"
        "print([m for m in unwanted if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _is_a_proxy(process: psutil.Process) -> bool:
    words = " ".join(process.info["cmdline"] or [])
    return "HAProxyManager" in words or "ProxyActor" in words


class _Load:
    """One client that infers without pause, in a thread."""

    def __init__(self, client: Any) -> None:
        self.results: list[tuple[int, Any]] = []
        self._client = client
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._enough.is_set():
            try:
                status, _, body = self._client.infer(ROW)
            except (OSError, HTTPException, ValueError) as error:
                status, body = 0, repr(error)
            self.results.append((status, body))

    def __enter__(self) -> "_Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def check(self) -> None:
        """Right answers, and at most two honest refusals."""
        refused = [(status, body) for status, body in self.results if status != 200]
        assert {status for status, _ in refused} <= {502, 503}, refused
        assert len(refused) <= 2, refused
        right = {tuple(b["outputs"][0]["data"]) for status, b in self.results if status == 200}
        assert right == {(1.0, 2.0, 3.0, 4.0)}


def _predictions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in rows if r["fact"] == "prediction" and r["model"] == "scale"]


def _usage(rows: list[dict[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for row in rows:
        if row["fact"] == "usage" and row["activity"] == "serve" and row["model"] == "scale":
            total.update({key: row[key] or 0 for key in ("requests", "items", "flop")})
    return total


def _kill(title: str) -> None:
    """Kill -9 the processes with this title that belong to the head of this run."""
    token = os.environ["RAY_AUTH_TOKEN_PATH"]
    found = [
        process for process in psutil.process_iter(["cmdline"])
        if title in " ".join(process.info["cmdline"] or [])
        and process.environ().get("RAY_AUTH_TOKEN_PATH") == token
    ]  # fmt: skip
    assert found, f"no process is called {title}"
    for process in found:
        process.send_signal(signal.SIGKILL)
