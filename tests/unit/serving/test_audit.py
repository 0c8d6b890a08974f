"""From answers to the record of each: who answered 10,000 requests, and what is kept of them."""

import asyncio
import base64
import hashlib
import hmac
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from tests.spooled import spooled

from steelyard.adapters.spool import read
from steelyard.adapters.sql.serving_policies import ServingPolicyStore
from steelyard.bootstrap import Platform
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import COMMON, FIELDS, record_bytes, record_fields
from steelyard.domain.audit_digest import KeyedDigest, digest_method
from steelyard.domain.metering import SupplyWindow, UsageWindow
from steelyard.domain.traffic import Route, Share, bucket, choose
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving import meter as metering
from steelyard_serving.audit import Answered, Outcome, record_of
from steelyard_serving.bookkeeping import Bookkeeping
from steelyard_serving.http_connection import Answer, Request
from steelyard_serving.ingress import Ingress
from steelyard_serving.meter import Meter
from steelyard_serving.registry_watch import RegistryWatch
from steelyard_serving.replica import LoadedModel
from steelyard_serving.secret_files import audit_key

KEY = bytes(range(32))
DIGEST = KeyedDigest(KEY)
ASKED = 10_000


def _answered(body: bytes | None = b"{}", **outcome: Any) -> Answered:
    return Answered("p1", {"x-steelyard-unit": "zo\xeb"}, 7, body, Outcome(200, 5, 1, **outcome))


def test_a_record_is_every_field_of_its_line_in_order(settings: Settings) -> None:
    """What the replica writes is what is hashed, byte for byte, without encoding it again."""
    own = record_of(_answered(classes=(1, 0), answer=b"[1]", cached=True), DIGEST)
    assert tuple(own) == FIELDS[len(COMMON) :]
    assert set(FIELDS) == set(PredictionRecord.__dataclass_fields__)
    common = dict.fromkeys(COMMON, "x")
    record = PredictionRecord(**common, **own)  # type: ignore[arg-type]
    assert record_bytes(record_fields(record)) == orjson.dumps(
        {"fact": "prediction", **common, **own}
    )


def test_digests_are_keyed() -> None:
    """Who has the records but not the key cannot try ages or names until one fits."""
    own = record_of(_answered(b'{"age": 41}', answer=b"no"), DIGEST)
    digested = {"unit_sha256": b"zo\xeb", "inputs_sha256": b'{"age": 41}', "outputs_sha256": b"no"}
    for name, data in digested.items():
        assert own[name] == hmac.digest(KEY, data, "sha256").hex()
        assert own[name] != hashlib.sha256(data).hexdigest()
    method = digest_method(KEY)
    assert method.startswith("hmac-sha256:")
    assert method != digest_method(KEY[::-1])
    assert (own["inputs"], own["outputs"]) == (None, None)


def test_values_are_kept_only_if_the_policy_asks(settings: Settings) -> None:
    """As they were sent; what is no text says so."""
    binary = b"\xff\x00\x01"
    own = record_of(
        _answered(b"\xc3\xab", answer=binary, keep_inputs=True, keep_outputs=True), DIGEST
    )
    assert own["inputs"] == "ë"
    assert own["outputs"] == "data:;base64," + base64.b64encode(binary).decode()
    assert str(record_of(_answered(b"a\0b", keep_inputs=True), DIGEST)["inputs"]).startswith(
        "data:"
    )
    assert record_of(_answered(None, keep_inputs=True), DIGEST)["inputs"] is None


def test_what_no_database_takes_does_not_get_into_a_record() -> None:
    """Half a surrogate or a NUL in a client's words would make its neighbours' segment unusable."""
    own = record_of(_answered(error="no input \ud800\0"), DIGEST)
    assert own["error"] == "no input ?\ufffd"


def test_a_copy_for_a_shadow_names_what_it_repeats() -> None:
    """Its record is told apart by its arm, and leads to the answer that the client got."""
    headers = {"x-steelyard-arm": "shadow", "x-steelyard-shadows": "p0",
               "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}  # fmt: skip
    own = record_of(Answered("p1", headers, 7, b"", Outcome(200, 5)), DIGEST)
    assert (own["arm"], own["shadows"], own["trace_id"]) == ("shadow", "p0", "a" * 32)


def test_kept_bodies_do_not_pile_up_in_memory(
    settings: Settings, make_served: Callable[[int], ServedVersion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Records that hold whole bodies are written by their size, long before there are many."""
    monkeypatch.setattr(metering, "BYTES_TO_FLUSH", 200_000)
    meter = Meter(settings, make_served(1).version)
    for _ in range(3):
        meter.add("serve", 1, requests=1, answered=_answered(b"x" * 100_000, keep_inputs=True))
    assert meter._wake.is_set() or len(list(settings.spool_dir.glob("*.jsonl"))) > 1
    meter.stop()


def test_records_are_written_before_their_window_ends(
    settings: Settings, make_served: Callable[[int], ServedVersion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A busy replica's records come in small segments; its windows stay as long as they are."""
    monkeypatch.setattr(metering, "RECORDS_TO_FLUSH", 50)
    meter = Meter(settings, make_served(1).version)
    for told in (50, 100):
        for _ in range(50):
            meter.add("serve", 1, requests=1, answered=_answered())
        while len(spooled(settings, PredictionRecord)) < told:
            time.sleep(0.01)  # for the meter's thread; a test that hangs is ended
    assert spooled(settings, SupplyWindow) + spooled(settings, UsageWindow) == []
    meter.stop()
    assert [one.requests for one in spooled(settings, UsageWindow)] == [100]
    assert len(spooled(settings, SupplyWindow)) == 1
    assert len(spooled(settings, PredictionRecord)) == 100


@pytest.fixture
def replicas(
    settings: Settings, make_served: Callable[[int], ServedVersion]
) -> Iterator[dict[int, tuple[Ingress, ServedVersion]]]:
    """A replica of each of three versions."""
    meters, found = [], {}
    for version in (1, 2, 3):
        served = make_served(version)
        meters.append(Meter(settings, served.version))
        model = LoadedModel(served.version, served.artifact)
        found[version] = (Ingress(model, meters[-1], settings.body_limit_bytes), served)
    yield found
    for meter in meters:
        meter.stop()


def test_each_of_10000_predictions_is_answered_for(
    settings: Settings, replicas: dict[int, tuple[Ingress, ServedVersion]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Three versions, a rollback in the middle: one version and digest an id, as was told (F25)."""
    monkeypatch.setattr(metering, "RECORDS_TO_FLUSH", 500)
    platform = Platform(settings)
    told = asyncio.run(_asked(replicas))
    for ingress, _ in replicas.values():
        ingress._meter.stop()
    collected = platform.metering.collect()
    assert (collected.conflicts, collected.damaged) == (0, 0)
    assert len(told) == ASKED
    with platform.engine.connect() as connection:
        query = text("select prediction_id, version, sha256, generation, status from prediction")
        stored = {row[0]: tuple(row[1:]) for row in connection.execute(query)}
    assert stored == told
    assert {version for version, *_ in told.values()} == {1, 2, 3}
    check = platform.audits.verify_predictions()
    assert (check.predictions, check.broken) == (ASKED, ())
    assert check.segments >= 3
    for name in random.Random(3).sample(sorted(told), 20):
        trace = platform.audits.trace(name).prediction
        assert (trace["version"], trace["sha256"]) == told[name][:2]
        one = platform.audits.verify_predictions(name)
        assert one.segments == 1 and one.broken == ()
    _change_one(platform, min(told))
    assert len(platform.audits.verify_predictions().broken) == 1


async def _asked(
    replicas: dict[int, tuple[Ingress, ServedVersion]],
) -> dict[str, tuple[int, str, int, int]]:
    """What clients were told, by id: version, digest of that version, weight table, status."""
    routes = [
        Route("scale", 1, 1, (Share(2, 0, 2_500),), "a"), Route("scale", 1, 2, lineage="a"),
        Route("scale", 1, 3, (Share(3, 0, 5_000),), "b"),
    ]  # fmt: skip
    told = {}
    for number in range(ASKED):
        step = number * len(routes) // ASKED
        unit = f"unit-{number % 997}"
        place = bucket(b"k" * 32, routes[step].lineage, unit)
        arm, version = choose(routes[step], place)
        headers = {
            "x-prediction-id": f"id-{number:05}", "x-steelyard-arm": arm,
            "x-steelyard-bucket": str(place), "x-steelyard-generation": str(step + 1),
            "x-steelyard-lineage": routes[step].lineage, "x-steelyard-unit": unit,
        }  # fmt: skip
        ingress, served = replicas[version]
        answer = await _ask(ingress, number, headers)
        assert answer.headers["x-model-version"] == str(version)
        told[answer.headers["x-prediction-id"]] = (
            int(answer.headers["x-model-version"]), served.version.sha256, step + 1, answer.status,
        )  # fmt: skip
    return told


async def _ask(ingress: Ingress, number: int, headers: dict[str, str]) -> Answer:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [number, number % 7]}
    body = orjson.dumps({"inputs": [tensor] if number % 100 else []})
    return await ingress.answer(
        Request("POST", "/v/scale/1/infer", headers, body, time.perf_counter_ns())
    )


def _change_one(platform: Platform, name: str) -> None:
    with platform.engine.begin() as connection:
        connection.execute(text("drop trigger prediction_no_update"))
        connection.execute(
            text("update prediction set version = 3 - version where prediction_id = :name"),
            {"name": name},
        )


def test_the_replicas_key_is_made_once_and_private(settings: Settings) -> None:
    """Replicas of one installation share it; nobody else may read it."""
    assert audit_key(settings) == audit_key(settings)
    path = settings.secret_dir / "audit.key"
    assert len(audit_key(settings)) == 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_segment_of_a_replica_is_sealed(
    settings: Settings, make_served: Callable[[int], ServedVersion]
) -> None:
    """With its predictions a replica hands in what nobody can change on the way."""
    meter = Meter(settings, make_served(1).version)
    numbers = count(1)
    for _ in range(3):
        meter.add("serve", 1, requests=1,
                  answered=_answered()._replace(prediction_id=f"p{next(numbers)}"))  # fmt: skip
        meter.flush()
    meter.stop()
    kinds = [[type(fact).__name__ for fact in read(path)]
             for path in sorted(settings.spool_dir.glob("*.jsonl"))]  # fmt: skip
    sealed = [own[-2:] for own in kinds if "PredictionRecord" in own]
    assert sealed == [["PredictionRecord", "SegmentSeal"]] * 3


def test_the_controller_erases_by_policy_once_an_hour(empty: Platform) -> None:
    """Nobody has to remember it; and the next turns do not look again."""
    now = empty.clock.now_us()
    ServingPolicyStore(empty.engine).change("m", {"retention_days": 1}, "ada", "law", now)
    books = Bookkeeping(empty, RegistryWatch(empty))

    def kept(name: str) -> bool:
        common = {"model": "m", "version": 1, "sha256": "d" * 64, "resource_id": "replica/m"}
        own = record_of(_answered()._replace(prediction_id=name, received_us=7), DIGEST)
        empty.facts.ingest([PredictionRecord(**common, **own)], now)  # type: ignore[arg-type]
        books._erase()
        return empty.predictions.prediction(name) is not None

    assert not kept("first")
    assert kept("within the hour")
    assert empty.predictions.check().broken == ()
