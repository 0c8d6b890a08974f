"""Whatever arrives is answered, never with an error of ours: properties of the whole replica."""

import asyncio
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.http_connection import Answer, Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.protocols.infer_request import NOT_OFFERED
from steelyard_serving.protocols.open_inference import JSON_LENGTH
from steelyard_serving.replica import LoadedModel

CORPUS = sorted((Path(__file__).parents[2] / "fuzz" / "corpus").iterdir())
WIDE = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
CALLS = ("infer", "invocations")
LIMIT = 4096

leaves: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
)
leaves |= st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    ["x", "y", "FP32", 1, 2, 0.5]
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def mostly(value: Any) -> st.SearchStrategy[Any]:
    """The value that is right, or anything else."""
    return st.just(value) | st.just(value) | st.just(value) | anything


parameters = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", *NOT_OFFERED]),
    mostly(8) | mostly(True),
    max_size=2,
)
tensors = st.fixed_dictionaries(
    {"name": mostly("x"), "datatype": mostly("FP32"), "shape": mostly([1, 2])},
    optional={"data": mostly([1, 2]), "parameters": parameters},
)
documents = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | anything},
    optional={
        "id": mostly("a"),
        "parameters": parameters,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": mostly("y")}, optional={"parameters": parameters})
        )
        | anything,
    },
)
tables = st.dictionaries(
    st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]),
    mostly([[1, 2]])
    | mostly([{"x": [1, 2]}])
    | mostly({"x": [[1, 2]]})
    | mostly({"columns": ["x"], "data": [[[1, 2]]]}),
    min_size=1,
    max_size=2,
)


class Door:
    """A replica of a model with one input of two numbers a row."""

    def __init__(self, settings: Settings, served: ServedVersion) -> None:
        self.meter = Meter(settings, served.version)
        self._ingress = Ingress(LoadedModel(served.version, served.artifact), self.meter, LIMIT)

    def ask(self, call: str, body: bytes, headers: dict[str, str]) -> Answer:
        """One request."""
        request = Request("POST", f"/v/scale/3/{call}", headers, body, time.perf_counter_ns())
        return asyncio.run(self._ingress.answer(request))


@pytest.fixture
def door(settings: Settings, make_served: Callable[[int], ServedVersion]) -> Iterator[Door]:
    """A door of one's own."""
    door = Door(settings, make_served(3))
    yield door
    door.meter.stop()


def check(answer: Answer, call: str) -> None:
    """A success in the form of the protocol, or a refusal in it; 520 is a model's NaN."""
    # Numbers that the model multiplies out of range are the model's failure: it gets no answer.
    assert answer.status in (200, 400, 413, 415) or answer.body.find(b"inference failed") > 0
    if answer.headers["content-type"] == "application/json":
        told = orjson.loads(answer.body)
        if answer.status != 200:
            assert set(told) == ({"error"} if call == "infer" else {"error_code", "message"})
            assert all(len(text) < 1000 for text in told.values())


@WIDE
@given(st.sampled_from(CALLS), st.binary(max_size=200), st.dictionaries(
    st.sampled_from([JSON_LENGTH, "content-encoding", "content-type", "accept-encoding"]),
    st.text(st.characters(max_codepoint=255), max_size=12)
    | st.sampled_from(["0", "1", "10", "gzip", "deflate", "text/csv", "application/json",
                       "application/vnd.apache.parquet"]),
))  # fmt: skip
def test_any_bytes_are_answered(
    door: Door, call: str, body: bytes, headers: dict[str, str]
) -> None:
    """Neither bytes nor headers can make the replica fail."""
    check(door.ask(call, body, headers), call)


@WIDE
@given(documents, st.binary(max_size=24), st.integers(-1, 3), st.booleans())
def test_any_inference_request_is_answered(
    door: Door, document: Any, tail: bytes, off: int, packed: bool
) -> None:
    """Nearly right documents, with raw bytes behind them, packed or not."""
    head = json.dumps(document, allow_nan=False).encode()
    headers = {JSON_LENGTH: str(len(head) + off)} if tail or off else {}
    body = head + tail
    if packed:
        body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
    check(door.ask("infer", body, headers), "infer")


@WIDE
@given(tables)
def test_any_table_is_answered(door: Door, document: Any) -> None:
    """Nearly right requests of MLflow's protocol."""
    headers = {"content-type": "application/json"}
    check(door.ask("invocations", json.dumps(document).encode(), headers), "invocations")


@WIDE
@given(st.lists(st.lists(st.text(max_size=4) | st.just("1"), max_size=3), max_size=4))
def test_any_csv_is_answered(door: Door, lines: list[list[str]]) -> None:
    """Text in rows and commas."""
    body = "\n".join(",".join(line) for line in lines).encode(errors="surrogatepass")
    check(door.ask("invocations", body, {"content-type": "text/csv"}), "invocations")


@pytest.mark.parametrize("request_file", CORPUS, ids=lambda path: path.name)
def test_what_a_fuzzer_found_worth_keeping_is_answered(door: Door, request_file: Path) -> None:
    """Each file is a request: the call, headers, an empty line, the body."""
    head, _, body = request_file.read_bytes().partition(b"\n\n")
    call, *lines = head.decode("latin-1").split("\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    call = call if call in CALLS else "infer"
    check(door.ask(call, body, headers), call)
