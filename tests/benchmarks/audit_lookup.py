"""One prediction of ten million: how long until everything behind it is there?

    python tests/benchmarks/audit_lookup.py [--predictions 10000000] [--folder DIR]

The first predictions go into SQLite through the same functions as in production (records' bytes,
seals, links, triggers, indexes), in segments of 5,000 of 20 models, with random ids as the edge
makes them. They are checked, all and one segment, and some are erased. SQL then copies them under
new random ids until there are as many as asked for; the copies are in no chain, but in every index.
At last predictions drawn at random are looked up: the whole trace (version, parent, run, rollout,
cost, ledger batch) of a database that is in no cache, then the row alone and the trace. With
``--folder`` the database is kept, and a second run only looks up.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import func, select, text

from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.erasures import ErasureStore
from steelyard.adapters.sql.tables import audit
from steelyard.bootstrap import Platform
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import (
    SegmentSeal,
    record_bytes,
    record_fields,
    segment_digest,
)
from steelyard.domain.facts import Fact
from steelyard.domain.hash_chain import GENESIS
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.settings import Settings

MODELS, SEGMENT, LOOKUPS, AIM_MS = 20, 5_000, 300, 50
FIRST_US, EVERY_US = 1_767_225_600_000_000, 100_000
DAY_US = 86_400_000_000


def records(number: int, chosen: random.Random) -> list[PredictionRecord]:
    """The predictions of a segment: those of one replica, a tenth of a second apart."""
    model, version = f"model-{number % MODELS}", 1 + number // MODELS % 3
    replica = f"replica/{model}/{version}/{number % MODELS:032x}"
    return [
        PredictionRecord(
            str(uuid.UUID(int=chosen.getrandbits(128), version=4)), model, version, "d" * 64,
            replica, "stable", "-", 1, chosen.randrange(10_000),
            FIRST_US + (number * SEGMENT + place) * EVERY_US, 150_000, 1, 200,
            unit_sha256=f"{chosen.getrandbits(256):064x}",
            inputs_sha256=f"{chosen.getrandbits(256):064x}", classes=(chosen.randrange(10),),
            latency_us=900, key_id="0123456789",
            outputs_sha256=f"{chosen.getrandbits(256):064x}",
            trace_id=f"{chosen.getrandbits(128):032x}",
            digest_method="hmac-sha256:0123456789abcdef",
        )
        for place in range(SEGMENT)
    ]  # fmt: skip


def segments(predictions: int) -> Iterator[list[Fact]]:
    """Sealed segments, as the collector reads them."""
    chosen = random.Random(7)
    last: dict[str, tuple[int, str]] = {}
    for number in range(predictions // SEGMENT):
        own = records(number, chosen)
        boot = f"{number % MODELS:032x}"
        before, previous = last.get(boot, (0, GENESIS))
        lines = (record_bytes(record_fields(one)) for one in own)
        digest = segment_digest(boot, before + 1, previous, lines)
        last[boot] = (before + 1, digest)
        yield [*own, SegmentSeal(boot, before + 1, len(own), previous, digest, "")]


def seal(platform: Platform, predictions: int) -> None:
    """Store the first ones, and the versions that they are of."""
    for model in range(MODELS):
        for version in (1, 2, 3):
            platform.catalog.record_version(ModelVersion(
                f"model-{model}", version, f"run-{version}", "s", "a", "d" * 64, 1, "fp32",
                "trained", Signature((), ()), 1,
            ))  # fmt: skip
    with platform.engine.connect() as connection:  # nothing here outlives a power cut
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.cursor().execute("pragma synchronous = off")
    start, done = time.perf_counter(), 0
    for facts in segments(predictions):
        platform.facts.ingest(facts, FIRST_US + predictions * EVERY_US)
        done += SEGMENT
    taken = time.perf_counter() - start
    print(f"stored     {done:,} in {taken:,.0f} s, {done / taken:,.0f} a second", flush=True)


def copy(platform: Platform, predictions: int) -> None:
    """Copy the first segments under new ids, until there are as many predictions as asked for."""
    columns = [column.name for column in audit.prediction.columns]
    new = {"prediction_id": "lower(hex(randomblob(16)))", "segment": "segment + :by",
           "received_us": "received_us + :by * 1000000"}  # fmt: skip
    # In order of their ids, so that the index is written from one end to the other.
    statement = text(
        f"insert into prediction ({', '.join(columns)}) "
        f"select {', '.join(new.get(name, name) for name in columns)} from prediction "
        "where segment <= :last order by 1"
    )
    start = time.perf_counter()
    with reading(platform.engine) as connection:
        sealed = connection.execute(select(func.count()).select_from(audit.prediction)).scalar_one()
        last = connection.execute(select(func.max(audit.prediction.c.segment))).scalar_one()
    for number in range(1, (predictions - 1) // sealed + 1):
        with platform.engine.begin() as connection:
            connection.execute(statement, {"by": number * last, "last": last})
    done = (predictions - 1) // sealed * sealed + sealed
    size = sum(path.stat().st_size for path in platform.settings.home.rglob("*.db*"))
    taken = time.perf_counter() - start
    print(f"copied     to {done:,} in {taken:,.0f} s; {size / 2**30:.1f} GiB, "
          f"{size / done:,.0f} bytes each", flush=True)  # fmt: skip


def forget(platform: Platform) -> None:
    """Have the system drop what it keeps of the database in memory: the first look-ups read it."""
    platform.engine.dispose()
    for path in platform.settings.home.rglob("*.db*"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(name: str, act: Callable[[str], object], ids: list[str]) -> None:
    """The time of looking up each of the ids."""
    samples = []
    for one in ids:
        start = time.perf_counter()
        assert act(one) is not None
        samples.append((time.perf_counter() - start) * 1e3)
    cuts = statistics.quantiles(samples, n=100)
    verdict = "within" if cuts[98] < AIM_MS else "NOT within"
    print(f"{name:<10} p50 {cuts[49]:.2f} ms   p99 {cuts[98]:.2f} ms   most {max(samples):.2f} ms"
          f"   ({verdict} {AIM_MS} ms, {len(ids)} drawn at random)")  # fmt: skip


def drawn(platform: Platform) -> list[str]:
    """Ids at random: by SQLite's row number, which says nothing about where the id stands."""
    chosen = random.Random(11)
    with reading(platform.engine) as connection:
        most = connection.execute(text("select max(rowid) from prediction")).scalar_one()
        query = text("select prediction_id from prediction where rowid = :at")
        places = chosen.sample(range(1, most + 1), LOOKUPS)
        found = [connection.execute(query, {"at": at}).scalar() for at in places]
    return [one for one in found if one]


def checked(platform: Platform, prediction_id: str) -> None:
    """The check of one prediction's segment, and of all."""
    for name in (prediction_id, None):
        start = time.perf_counter()
        found = platform.audits.verify_predictions(name)
        taken = time.perf_counter() - start
        assert not found.broken, found.broken
        print(f"verified   {found.predictions:,} predictions in {found.segments:,} segments: "
              f"{taken:,.2f} s, {found.predictions / taken:,.0f} a second")  # fmt: skip


def erased(platform: Platform) -> None:
    """The erasure of a model's oldest segments."""
    store = ErasureStore(platform.engine)
    with reading(platform.engine) as connection:
        last = connection.execute(select(func.max(audit.prediction_segment.c.last_us))).scalar_one()
    due = store.due({"model-0": 1}, last + DAY_US, 20)
    start = time.perf_counter()
    for one in due:
        store.erase([one], "benchmark", last + DAY_US)
    count = sum(one.records for one in due)
    taken = time.perf_counter() - start
    print(f"erased     {count:,} in {taken:,.1f} s, {taken / max(len(due), 1) * 1e3:,.0f} ms a "
          f"segment of {SEGMENT:,}")  # fmt: skip


def main() -> None:
    """Seal, check, erase, copy, look up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sealed", type=int, default=200_000)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        platform = Platform(Settings(home=given.folder or Path(name)))
        with reading(platform.engine) as connection:
            stored = connection.execute(select(func.max(audit.prediction_segment.c.seq))).scalar()
        if not stored:
            seal(platform, given.sealed)
            checked(platform, drawn(platform)[0])
            erased(platform)
            copy(platform, given.predictions)
        ids = drawn(platform)
        forget(platform)
        timed("from disk", platform.audits.trace, ids)
        ids = drawn(platform)
        timed("the row", platform.predictions.prediction, ids)
        timed("the trace", platform.audits.trace, ids)
        platform.engine.dispose()


if __name__ == "__main__":
    main()
