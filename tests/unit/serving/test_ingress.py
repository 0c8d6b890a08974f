"""A request's way through the replica: keys, deadlines, batches, cache, and what is recorded."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.spooled import spooled

from steelyard.domain.api_key import ApiKey
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.envelope import Envelope, InputBounds
from steelyard.domain.model_version import FlopsProfile, ModelVersion, Signature, TensorSpec
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.serving_snapshot import Snapshot
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.envelope import prepared
from steelyard_serving.executor import Executor
from steelyard_serving.http_connection import Answer, Request
from steelyard_serving.inference import Inferred
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.metrics import Metrics
from steelyard_serving.pipeline import Checks
from steelyard_serving.quota import Quota
from steelyard_serving.replica import LoadedModel
from steelyard_serving.rules import Rules
from steelyard_serving.snapshot_file import SnapshotFile

KEY = ApiKey(
    "0123456789", "test", sha256(b"s" * 43).hexdigest(), 1, items_per_day=3, models=("table",)
)
SENT = {"x-api-key": "sy_0123456789_" + "s" * 43}
POISON = 99
"""A place that the table has not: the graph raises."""


class Switchboard:
    """Rules that a test may change."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()

    def current(self, now_monotonic: float) -> Snapshot:
        """What was set last."""
        return self.snapshot

    def set(self, **policy: Any) -> None:
        """Another policy from the next request on."""
        self.snapshot = replace(self.snapshot, policies={"table": ServingPolicy(**policy)})


class Replica:
    """A replica of a model that looks up rows of two places in a table of tens."""

    def __init__(
        self, settings: Settings, served: ServedVersion, rules: Rules | None = None
    ) -> None:
        self.rules = Switchboard()
        self.settings = settings
        self.meter = Meter(settings, served.version)
        bounds = prepared(served.version.envelope, served.version.signature)
        checks = Checks(rules or self.rules, Quota(settings), bounds=bounds, mark="ours")
        self.ingress = Ingress(
            LoadedModel(served.version, served.artifact), self.meter, 2048, checks,
            Metrics(settings, served.version),
        )  # fmt: skip

    def ask(self, *requests: Sequence[int], **headers: str) -> list[Answer]:
        """Requests that arrive at once."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(*((body(*places), sent) for places in requests))

    def send(self, *requests: tuple[bytes, Mapping[str, str]]) -> list[Answer]:
        """Bodies and headers that arrive at once."""
        now_ns = time.perf_counter_ns()

        async def together() -> list[Answer]:
            return await asyncio.gather(*(
                self.ingress.answer(Request("POST", "/v/table/1/infer", headers, body, now_ns))
                for body, headers in requests
            ))  # fmt: skip

        return asyncio.run(together())

    def records(self) -> list[PredictionRecord]:
        """All records, in order; the replica has ended."""
        self.meter.stop()
        return spooled(self.settings, PredictionRecord)

    def usage(self) -> list[dict[str, Any]]:
        """All usage windows; the replica has ended."""
        files = sorted(self.settings.spool_dir.glob("*.jsonl"))
        lines = (orjson.loads(line) for path in files for line in path.read_bytes().splitlines())
        return [line for line in lines if line["fact"] == "usage"]

    def hits(self) -> int:
        """Ask once more, and tell how many were answered from the cache so far."""
        self.ask([1, 2])
        return int(self.statistics()["inference_stats"]["cache_hit"]["count"])

    def statistics(self) -> dict[str, Any]:
        """The statistics answer."""
        request = Request("GET", "/v/table/1/stats", {}, b"", time.perf_counter_ns())
        answer = asyncio.run(self.ingress.answer(request))
        told: dict[str, Any] = orjson.loads(answer.body)["model_stats"][0]
        return told


def body(*places: int, **parameters: Any) -> bytes:
    """A request with rows of two places."""
    tensor = {
        "name": "x", "datatype": "INT64", "shape": [len(places) // 2, 2], "data": list(places),
    }  # fmt: skip
    return orjson.dumps({"inputs": [tensor], "parameters": parameters})


def data(answer: Answer) -> list[float]:
    """The values of the only output."""
    assert answer.status == 200, answer.body
    values: list[float] = orjson.loads(answer.body)["outputs"][0]["data"]
    return values


@pytest.fixture
def table(tmp_path: Path) -> ServedVersion:
    """A model that gives ten times each place, and raises for a place that it has not."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["tens", "x"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.arange(10, dtype=np.float32) * 10, "tens")],
    )
    opset = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    path = tmp_path / "table.onnx"
    path.write_bytes(content)
    signature = Signature((TensorSpec("x", "INT64", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
    version = ModelVersion(
        model="table", version=1, run_id="r", source="s", artifact=path.name,
        sha256=sha256(content).hexdigest(), size_bytes=len(content), variant="fp32",
        relation="trained", signature=signature, created_us=1,
        envelope=Envelope((InputBounds("x", "all", (0,), (7,)),), 100),
        flops=FlopsProfile(7, None, "by hand", 1.0),
    )  # fmt: skip
    return ServedVersion(version, path)


@pytest.fixture
def replica(settings: Settings, table: ServedVersion) -> Replica:
    """A replica of one's own; nothing is switched on."""
    return Replica(settings, table)


def test_requests_of_one_moment_share_an_inference(replica: Replica) -> None:
    """Each gets its own rows, all the same batch number; its cost is parted to the nanosecond."""
    replica.rules.set(batch_latency_ms=50)
    answers = replica.ask([1, 2], [3, 4, 5, 6], [7, 0])
    assert [data(one) for one in answers] == [[10, 20], [30, 40, 50, 60], [70, 0]]
    told = replica.statistics()
    assert (told["execution_count"], told["inference_count"]) == (1, 4)
    assert told["inference_stats"]["success"]["count"] == 3
    assert [one["batch_size"] for one in told["batch_stats"]] == [4]
    assert told["batch_stats"][0]["compute_infer"]["count"] == 1
    assert [one.batch for one in replica.records()] == [1, 1, 1]


def test_without_the_policy_each_infers_alone(replica: Replica) -> None:
    """Batching is off until somebody wants it, and off again when he does not."""
    replica.ask([1, 2], [3, 4])
    replica.rules.set(batch_latency_ms=50)
    replica.ask([1, 2], [3, 4])
    replica.rules.set()
    replica.ask([1, 2], [3, 4])
    assert replica.statistics()["execution_count"] == 5
    assert [one.batch for one in replica.records()] == [1, 2, 3, 3, 4, 5]


def test_a_request_that_breaks_the_graph_harms_nobody_else(replica: Replica) -> None:
    """What failed together is run one by one: one error, and right answers for the neighbours."""
    replica.rules.set(batch_latency_ms=50)
    first, poisoned, last = replica.ask([1, 2], [POISON, 0], [3, 4])
    assert (data(first), data(last)) == ([10, 20], [30, 40])
    assert poisoned.status == 520
    records = replica.records()
    assert [one.status for one in records] == [200, 500, 200]
    assert len({one.batch for one in records}) == 3


def test_a_model_with_a_fixed_first_dimension_is_not_batched(
    settings: Settings, make_served: Callable[[int], ServedVersion]
) -> None:
    """Its requests are answered one by one, whatever the policy says."""
    served = make_served(3)
    fixed = (TensorSpec("x", "FP32", (1, 2)),)
    signature = Signature(fixed, (TensorSpec("y", "FP32", (1, 2)),))
    replica = Replica(
        settings,
        replace(served, version=replace(served.version, model="table", signature=signature)),
    )
    replica.rules.set(batch_latency_ms=50)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    sent = orjson.dumps({"inputs": [tensor]})
    answers = replica.send((sent, {}), (sent, {}))
    assert [data(one) for one in answers] == [[3, 6], [3, 6]]
    assert [one.batch for one in replica.records()] == [1, 2]


@pytest.mark.parametrize("batch_latency_ms", [0, 50])
def test_who_no_longer_waits_gets_no_inference(replica: Replica, batch_latency_ms: int) -> None:
    """504 by either form of the deadline; it is no error of the version, and others are served."""
    replica.rules.set(batch_latency_ms=batch_latency_ms)
    late, over, unsaid, patient = replica.send(
        (body(1, 2, timeout=1), {}),
        (body(1, 2, timeout=60_000_000), {"x-request-timeout-ms": "0"}),
        (body(1, 2, timeout=0), {}),
        (body(3, 4, timeout=60_000_000), {"x-request-timeout-ms": "60000"}),
    )
    assert (late.status, over.status) == (504, 504)
    assert b"time was over" in late.body
    assert (data(unsaid), data(patient)) == ([10, 20], [30, 40])
    assert replica.send((body(1, 2), {"x-request-timeout-ms": "soon"}))[0].status == 400
    assert replica.send((body(1, 2, timeout="1"), {}))[0].status == 400
    first = replica.records()[0]
    assert (first.status, first.batch) == (504, None)
    assert sum(one["errors"] for one in replica.usage()) == 0


def test_an_equal_request_is_answered_from_the_cache(replica: Replica) -> None:
    """In whatever form it comes; recorded and counted as such, at what it really took."""
    replica.rules.set(cache_bytes=10_000)
    first, again = replica.ask([1, 2])[0], replica.ask([1, 2])[0]
    head = orjson.dumps({"inputs": [{
        "name": "x", "datatype": "INT64", "shape": [1, 2], "parameters": {"binary_data_size": 16},
    }]})  # fmt: skip
    raw = np.array([1, 2], "<i8").tobytes()
    (binary,) = replica.send((head + raw, {"inference-header-content-length": str(len(head))}))
    assert data(first) == data(again) == data(binary) == [10, 20]
    told = replica.statistics()
    assert told["inference_count"] == told["execution_count"] == 1
    stats = told["inference_stats"]
    assert (stats["success"]["count"], stats["compute_infer"]["count"]) == (3, 1)
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (2, 1)
    records = replica.records()
    assert [(one.cached, one.batch) for one in records] == [(0, 1), (1, None), (1, None)]
    assert all(one.busy_ns > 0 and one.classes == (1,) for one in records)
    (usage,) = replica.usage()
    assert (usage["requests"], usage["items"], usage["flop"]) == (3, 3, 7)
    assert usage["busy_ns"] == sum(one.busy_ns for one in records)


@pytest.mark.parametrize("batch_latency_ms", [0, 50])
def test_equal_requests_of_one_moment_infer_once(replica: Replica, batch_latency_ms: int) -> None:
    """Single flight, with and without batches; a failure is nobody's but the one who asks."""
    replica.rules.set(cache_bytes=10_000, batch_latency_ms=batch_latency_ms)
    answers = replica.ask([1, 2], [1, 2], [3, 4], [1, 2])
    assert [data(one) for one in answers] == [[10, 20], [10, 20], [30, 40], [10, 20]]
    assert replica.statistics()["inference_count"] == 2
    assert [one.status for one in replica.ask([POISON, 1], [POISON, 1])] == [520, 520]
    assert [one.status for one in replica.ask([POISON, 1])] == [520]


def test_the_cache_is_turned_off_while_serving(replica: Replica) -> None:
    """From one request to the next, and what it held is gone."""
    for room in (10_000, 0, 10_000):
        replica.rules.set(cache_bytes=room)
        replica.ask([1, 2])
    assert replica.statistics()["execution_count"] == 3


def test_a_probe_is_never_answered_from_the_cache(replica: Replica) -> None:
    """It proves that the model infers."""
    replica.rules.set(cache_bytes=10_000)
    replica.ask([1, 2])
    ours = {"x-steelyard-probe": "1", "x-steelyard-internal": "ours"}
    replica.send((body(1, 2), ours))
    replica.meter.stop()
    assert [one.cached for one in replica.records()] == [0]
    assert replica.statistics()["inference_stats"]["cache_hit"]["count"] == 0


def test_keys_are_asked_for_before_a_byte_is_read(replica: Replica) -> None:
    """No key, a wrong one, one for other models: 401 and 403 in the protocol's form."""
    replica.rules.snapshot = Snapshot(True, keys={KEY.key_id: KEY})
    none, wrong, right = replica.send(
        (b"not read", {}),
        (b"not read", {"authorization": "Bearer sy_0123456789_" + "w" * 43}),
        (body(1, 2), SENT),
    )
    assert [one.status for one in (none, wrong, right)] == [401, 401, 200]
    assert none.headers["www-authenticate"] == "Bearer"
    assert none.body == wrong.body
    other = replace(KEY, models=("other",))
    replica.rules.snapshot = Snapshot(True, keys={KEY.key_id: other})
    assert replica.send((b"not read", SENT))[0].status == 403
    assert replica.send((body(1, 2), {"x-steelyard-internal": "ours"}))[0].status == 200
    assert replica.send((body(1, 2), {"x-steelyard-internal": "theirs"}))[0].status == 401
    records = replica.records()
    assert [one.key_id for one in records] == [None, None, KEY.key_id, None, None, None]
    assert records[0].inputs_sha256 is None


def test_a_budget_counts_rows_that_were_accepted(replica: Replica) -> None:
    """Three rows a day: malformed requests cost nothing, too much is 429 and not counted."""
    replica.rules.snapshot = Snapshot(keys={KEY.key_id: KEY})
    bad = replica.send((b"{}", SENT))[0]
    two, over, one = (replica.send((body(*places), SENT))[0] for places in
                      ([1, 2, 3, 4], [1, 2, 3, 4], [5, 6]))  # fmt: skip
    assert [each.status for each in (bad, two, over, one)] == [400, 200, 429, 200]
    assert int(over.headers["retry-after"]) > 0
    assert [each.items for each in replica.records()] == [0, 2, 0, 1]


def test_a_key_is_told_what_it_may_know(replica: Replica) -> None:
    """A label instead of scores, from the cache as well; the record keeps the class."""
    told = replace(KEY, told="label", items_per_day=0)
    replica.rules.snapshot = Snapshot(keys={KEY.key_id: told})
    replica.rules.set(cache_bytes=10_000)
    assert data(replica.ask([1, 2])[0]) == [10, 20]
    assert data(replica.send((body(1, 2), SENT))[0]) == [0, 1]
    assert [one.classes for one in replica.records()] == [(1,), (1,)]


def test_rows_unlike_training_are_flagged_or_refused(replica: Replica) -> None:
    """By the policy of the moment: recorded, refused with the feature's name, or let through."""
    assert replica.ask([8, 0])[0].status == 200
    replica.rules.set(outside="refuse")
    refused = replica.ask([8, 0])[0]
    assert refused.status == 400
    assert b"8" in refused.body
    replica.rules.set(outside="accept")
    assert replica.ask([8, 0])[0].status == 200
    first, _, last = replica.records()
    assert first.flags is not None
    assert first.flags.startswith("outside:x")
    assert last.flags is None


def test_values_are_recorded_when_the_policy_says_so(replica: Replica) -> None:
    """Digests alone by default."""
    replica.ask([1, 2])
    replica.rules.set(record_inputs="values", record_outputs="values")
    answer = replica.ask([1, 2])[0]
    first, second = replica.records()
    assert (first.inputs, first.outputs) == (None, None)
    assert (second.inputs, second.outputs) == (body(1, 2).decode(), answer.body.decode())


def test_what_the_controller_writes_holds_without_a_restart(
    settings: Settings, table: ServedVersion
) -> None:
    """Cache, batches and keys follow the signed file within seconds."""
    replica = Replica(settings, table, Rules(settings))
    file = SnapshotFile(settings)

    def soon(met: Callable[[], bool]) -> bool:
        until = time.monotonic() + 10
        while not met() and time.monotonic() < until:
            time.sleep(0.05)
        return met()

    assert replica.ask([1, 2])[0].status == 200
    file.write(Snapshot(policies={"table": ServingPolicy(batch_latency_ms=50, cache_bytes=9_999)}))
    assert soon(lambda: replica.hits() > 0)
    before = replica.statistics()["execution_count"]
    replica.ask([3, 4], [5, 6])
    assert replica.statistics()["execution_count"] == before + 1
    file.write(Snapshot(require_keys=True))
    assert soon(lambda: replica.ask([1, 2])[0].status == 401)


class Gated:
    """A slow model of which a test says when it goes on; it gives its input back."""

    def __init__(self, version: ModelVersion) -> None:
        self.version = version
        self.steady_ns = 10_000_000
        self.takes_batches = True
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.ran: list[int] = []

    def form_of(self, inputs: Mapping[str, Any]) -> object:
        """By the rows' shape."""
        return inputs["x"].shape[1:]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Wait for the gate."""
        self.begun.release()
        assert self.gate.acquire(timeout=10)
        self.ran.append(len(inputs["x"]))
        return {"y": inputs["x"]}


class Line:
    """An executor with a gated model, and what it could hand to nobody."""

    def __init__(self, version: ModelVersion) -> None:
        self.model = Gated(version)
        self.lost: list[int] = []
        self.executor = Executor(self.model, self.lost.append)  # type: ignore[arg-type]

    def ask(
        self, value: int, width: int = 2, within_ms: int | None = None, **policy: Any
    ) -> "asyncio.Task[Inferred]":
        """One row, asked now."""
        rows = np.full((1, width), value)
        due_ns = None if within_ms is None else time.perf_counter_ns() + within_ms * 1_000_000
        return asyncio.ensure_future(
            self.executor.infer({"x": rows}, 1, due_ns, ServingPolicy(**policy))
        )

    async def begun(self) -> None:
        """The model has begun with an inference."""
        assert await asyncio.to_thread(self.model.begun.acquire, timeout=10)


BATCHED: dict[str, Any] = {"batch_latency_ms": 10_000}


def test_who_comes_during_an_inference_goes_together(table: ServedVersion) -> None:
    """Naturally: nobody waited, and of two forms each has its own inference."""

    async def main() -> None:
        line = Line(table.version)
        first = line.ask(1, **BATCHED)
        await line.begun()
        later = [line.ask(n, **BATCHED) for n in (2, 3)]
        wider = [line.ask(n, 3, **BATCHED) for n in (4, 5)]
        line.model.gate.release(3)
        found = await asyncio.gather(first, *later, *wider)
        assert [one.outputs["y"][0, 0] for one in found] == [1, 2, 3, 4, 5]
        assert line.model.ran == [1, 2, 2]
        assert [one.batch for one in found] == [1, 2, 2, 3, 3]
        assert [one.leads for one in found] == [True, True, False, True, False]
        assert found[1].queue_ns > 0

    asyncio.run(main())


@pytest.mark.parametrize("policy", [{}, BATCHED])
def test_time_spent_for_nobody_is_booked_all_the_same(
    table: ServedVersion, policy: dict[str, Any]
) -> None:
    """A client that leaves during his inference is not answered; one that waits is not run."""

    async def main() -> None:
        line = Line(table.version)
        running = line.ask(1, **policy)
        await line.begun()
        waiting, patient = line.ask(2, **policy), line.ask(3, **policy)
        await asyncio.sleep(0)
        running.cancel()
        waiting.cancel()
        await asyncio.wait([running, waiting])
        line.model.gate.release(3)
        assert (await patient).outputs["y"][0, 0] == 3
        assert line.model.ran == [1, 1]
        assert len(line.lost) == 1
        assert line.lost[0] > 0

    asyncio.run(main())


@pytest.mark.parametrize("policy", [{}, BATCHED])
def test_a_deadline_that_passes_in_the_queue_is_kept(
    table: ServedVersion, policy: dict[str, Any]
) -> None:
    """Nothing is inferred for it when its turn comes."""

    async def main() -> None:
        line = Line(table.version)
        first = line.ask(1, **policy)
        await line.begun()
        late, patient = line.ask(2, within_ms=0, **policy), line.ask(3, **policy)
        line.model.gate.release(2)
        assert (await late).failure is not None
        assert (await patient).failure is None
        assert (await first).failure is None
        assert line.model.ran == [1, 1]

    asyncio.run(main())


def test_a_model_that_mixes_rows_is_left_alone(table: ServedVersion) -> None:
    """One that does not give a row for a row cannot be shared: each is run by itself from then."""

    class Summing(Gated):
        def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            return {"y": super().run(inputs)["y"].sum(axis=0, keepdims=True)}

    async def main() -> None:
        line = Line(table.version)
        line.model = Summing(table.version)
        line.executor = Executor(line.model, line.lost.append)  # type: ignore[arg-type]
        line.model.gate.release(100)
        found = await asyncio.gather(*(line.ask(n, **BATCHED) for n in (1, 2, 3)))
        assert [one.outputs["y"][0, 0] for one in found] == [1, 2, 3]
        found = await asyncio.gather(*(line.ask(n, **BATCHED) for n in (4, 5)))
        assert [one.outputs["y"][0, 0] for one in found] == [4, 5]
        assert line.model.ran == [3, 1, 1, 1, 1, 1]

    asyncio.run(main())
