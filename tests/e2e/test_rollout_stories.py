"""What becomes of good, slow, wrong, dear, crashing and unasked versions, on the real platform."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx2
import numpy as np
import onnx
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from steelyard.bootstrap import Platform
from steelyard.domain.model_version import Candidate, Signature, TensorSpec
from steelyard.settings import Settings

NewHome = Callable[[str], AbstractContextManager[Any]]
pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.timeout(300)]
MODEL = "stories"
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 8)),), (TensorSpec("y", "FP32", (-1, 8)),))
STABLE, GOOD, SLOW, WRONG, DEAR, CRASHING, UNASKED = range(1, 8)
WORK = {SLOW: 40, DEAR: 6}
"""Products of large matrices by version: milliseconds, and many of them."""
SIZE = 384
PLAN: dict[str, Any] = {
    "preset": "fast", "interval": 1, "keep_warm": 1, "label_maturity": 0,
    "inconclusive_limit": 600,
    "steps": [{"weight": 20, "bake": 2, "min_requests": 30}, {"weight": 50, "bake": 2},
              {"weight": 100}],
    "metrics": [{"name": "errors", "floor": 0.05, "required": True}],
}  # fmt: skip


def file_of(version: int) -> bytes:
    """A classifier of eight classes: the largest input wins, but for the wrong version."""
    order = np.roll(np.eye(8, dtype=np.float32), 1, axis=1) if version == WRONG else np.eye(8)
    values = [numpy_helper.from_array((order * (1 + version / 100)).astype(np.float32), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"])]
    last = "z"
    if version in WORK:
        # Work whose result adds nothing; it begins with the input, or it would be done beforehand.
        random = np.random.default_rng(version).normal(0, 0.01, (SIZE, SIZE)).astype(np.float32)
        values += [numpy_helper.from_array(random, "m"),
                   numpy_helper.from_array(np.zeros((), np.float32), "zero")]  # fmt: skip
        nodes += [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
                  helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
                  helper.make_node("Add", ["m", "nothing"], ["p0"])]  # fmt: skip
        for n in range(WORK[version]):
            nodes.append(helper.make_node("MatMul", [f"p{n}", "m"], [f"p{n + 1}"]))
        nodes += [helper.make_node("ReduceSum", [f"p{WORK[version]}"], ["all"], keepdims=0),
                  helper.make_node("Mul", ["all", "zero"], ["still"]),
                  helper.make_node("Add", ["z", "still"], ["worked"])]  # fmt: skip
        last = "worked"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "stories", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def register(platform: Platform, version: int) -> None:
    """A version in the registry; nothing of it was measured."""
    uri, content = platform.settings.registry_uri, file_of(version)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    known = client.get_experiment_by_name(MODEL)
    root = platform.settings.artifact_root.as_uri()
    experiment = known.experiment_id if known else client.create_experiment(MODEL, root)
    info = client.create_run(experiment).info
    folder = Path(urlparse(info.artifact_uri).path) / "model"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    found = platform.registry.register(
        Candidate(MODEL, info.run_id, f"{info.artifact_uri}/model", "model.onnx",
                  sha256(content).hexdigest(), len(content), "fp32", "trained", SIGNATURE)
    )  # fmt: skip
    assert found.version == version


class Users:
    """Three people after another, each request from another unit; what they were told."""

    def __init__(self, edge: str) -> None:
        self._url = f"{edge}/v2/models/{MODEL}/infer"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(3)]
        self.answers: list[tuple[str, str, int]] = []
        """Prediction id, version, and the class that is right."""
        self.failed: list[int] = []

    def __enter__(self) -> "Users":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _ask(self, number: int) -> None:
        random, count = np.random.default_rng(number), 0
        with httpx2.Client(timeout=30) as client:
            while not self._stop.wait(0.01):
                count += 1
                row = random.random(8)
                tensor = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": row.tolist()}
                headers = {"x-unit-id": f"{number}-{count}"}
                answer = client.post(self._url, json={"inputs": [tensor]}, headers=headers)
                if answer.status_code != 200:
                    self.failed.append(answer.status_code)
                    continue
                told = answer.headers
                self.answers.append(
                    (told["x-prediction-id"], told["x-model-version"], int(row.argmax()))
                )


@pytest.fixture(scope="module")
def home(new_home: NewHome) -> Iterator[Any]:
    """A platform on which the first version serves."""
    with new_home("stories") as home:
        home.ok("up")
        platform = Platform(Settings(home=home.path))
        for version in range(STABLE, UNASKED + 1):
            register(platform, version)
        platform.engine.dispose()
        home.ok("deploy", f"{MODEL}/{STABLE}", "--override-gates", "made for these stories")
        yield home


def rolled_out(home: Any, version: int, **changes: Any) -> None:
    """Start a rollout with the plan and what is different about it."""
    file = home.path / "plan.yaml"
    file.write_text(yaml.safe_dump({**PLAN, **changes}))
    home.ok("rollout", "start", f"{MODEL}/{version}", "--plan", str(file),
            "--override-gates", "made for these stories")  # fmt: skip


def ended(home: Any, what: Callable[[dict[str, Any]], object], seconds: float = 90) -> Any:
    """The newest rollout, when it has come so far."""
    deadline = time.monotonic() + seconds
    while True:
        found = home.ok("rollout", "status", MODEL)
        if what(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def over(rollout: dict[str, Any]) -> bool:
    """Whether it has ended."""
    return rollout["ended_us"] is not None


def all_hold(home: Any) -> None:
    """Every decision is the same when it is made again on its evidence."""
    explained = home.ok("rollout", "explain", MODEL)
    assert explained["all_hold"]
    assert any(one["holds"] for one in explained["decisions"])


def test_a_slow_version_is_rolled_back(home: Any) -> None:
    """Its answers come later than the limit, and stable's do not."""
    with Users(home.edge) as users:
        latency = {"name": "latency", "slo_ms": 25, "tolerance": 1.1, "margin": 1.5}
        rolled_out(home, SLOW, metrics=[*PLAN["metrics"], latency])
        found = ended(home, over)
    assert found["condition"] == "degraded" and "latency" in found["reason"], found
    assert not users.failed
    all_hold(home)


def test_a_dearer_version_is_held(home: Any) -> None:
    """It is as right and in time, but each request takes more of the device: a person decides."""
    with Users(home.edge) as users:
        cost = {"name": "cost", "tolerance": 1.2, "action": "pause"}
        steps = [{"weight": 20, "bake": 15, "min_requests": 30}, {"weight": 100}]
        rolled_out(home, DEAR, steps=steps, metrics=[*PLAN["metrics"], cost])
        found = ended(home, lambda r: r["condition"] == "paused" or over(r))
        assert found["condition"] == "paused" and "cost" in found["reason"], found
        home.ok("rollout", "abort", MODEL, "--reason", "too dear")
        assert ended(home, over)["condition"] == "degraded"
    assert not users.failed
    all_hold(home)


def test_a_version_whose_replicas_crash_is_rolled_back(home: Any) -> None:
    """They are killed as soon as they are there; users hardly notice."""
    with Users(home.edge):
        steps = [{"weight": 20, "bake": 60, "min_requests": 30}, {"weight": 100}]
        rolled_out(home, CRASHING, steps=steps)
        ended(home, lambda r: r["weight_bp"] > 0)
        deadline = time.monotonic() + 80
        while not over(found := home.ok("rollout", "status", MODEL)):
            assert time.monotonic() < deadline, found
            for process in home.processes():
                _kill_replica(process, CRASHING)
    assert found["condition"] == "degraded", found
    assert any(word in found["reason"] for word in ("unhealthy", "failed", "guard")), found


def _kill_replica(process: psutil.Process, version: int) -> None:
    try:
        if f"ServeReplica:{MODEL}-v{version}:" in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
    except (psutil.Error, OSError):
        pass


def test_a_version_that_nobody_asks_waits_and_says_why(home: Any) -> None:
    """No data is neither a pass nor a failure; after the deadline a person is asked."""
    rolled_out(home, UNASKED, deadline=12)
    held = ended(home, lambda r: r["reason"].startswith("hold"))
    assert held["reason"] == "hold: needs 30 more canary requests"
    found = ended(home, lambda r: r["condition"] == "paused" or over(r))
    assert (found["condition"], found["cause"]) == ("paused", "no_data"), found
    home.ok("rollout", "abort", MODEL, "--reason", "nobody came")
    assert ended(home, over)["condition"] == "degraded"


def test_a_wrong_version_is_rolled_back_in_its_probation(home: Any) -> None:
    """It answers fast and well formed, and has all traffic when the first labels come."""
    with Users(home.edge) as users:
        labels = {"name": "labels", "margin": 1.25}
        rolled_out(home, WRONG, probation=120, metrics=[*PLAN["metrics"], labels])
        ended(home, lambda r: r["condition"] == "probation" or over(r))
        file = home.path / "labels.json"
        rows = [{"prediction_id": i, "class": right} for i, _, right in list(users.answers)]
        file.write_text(json.dumps(rows))
        added = home.ok("labels", "add", str(file), "--source", "reviewers")
        assert added["new"] > 0
        found = ended(home, over)
    assert found["condition"] == "degraded" and "labels" in found["reason"], found
    assert not users.failed
    assert home.ok("models", "show", MODEL)["aliases"]["champion"] == STABLE
    all_hold(home)


def test_a_good_version_is_promoted_and_rolled_back_at_once(home: Any) -> None:
    """It takes all traffic by its proof, and gives it back on a word; nobody is refused."""
    with Users(home.edge) as users:
        rolled_out(home, GOOD, keep_warm=60)
        found = ended(home, over)
        assert found["condition"] == "healthy", found
        all_hold(home)
        home.ok("rollback", MODEL)
        count = len(users.answers)
        ended(home, over)
        deadline = time.monotonic() + 20
        while len(users.answers) < count + 50 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not users.failed
    assert {version for _, version, _ in users.answers[-20:]} == {str(STABLE)}
    history = home.ok("rollout", "history", MODEL)["promotions"]
    assert [p["to_version"] for p in history] == [STABLE, GOOD, STABLE]
