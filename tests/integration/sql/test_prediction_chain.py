"""Predictions in SQL: every change of any row is found, and what is erased is erased on record."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, Text, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from steelyard.adapters.spool import Producer, SpoolFolder
from steelyard.adapters.sql.database import migrate, reading, upgrade
from steelyard.adapters.sql.erasures import ErasureStore
from steelyard.adapters.sql.facts import FactStore, Ingested
from steelyard.adapters.sql.labels import LabelStore
from steelyard.adapters.sql.predictions import PredictionStore
from steelyard.adapters.sql.tables import audit
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import COMMON, FIELDS, record_fields
from steelyard.services.metering import Metering
from steelyard.services.retention import Erased, Retention

from .conftest import FixedClock

pytestmark = pytest.mark.integration

DAY = 86_400_000_000
NOW = 1_000 * DAY
CHAINED = (audit.prediction, audit.prediction_aside, audit.prediction_segment,
           audit.prediction_erasure, audit.audit_head)  # fmt: skip


def _record(name: str, at_us: int = NOW, model: str = "digits") -> PredictionRecord:
    return PredictionRecord(
        name, model, 3, "d" * 64, "replica/1", "canary", "r1", 4, 17, at_us, 1_234, 2, 200,
        unit_sha256="a" * 64, inputs_sha256="b" * 64, classes=(1, 0), error='"20" °C',
        latency_us=2_345, key_id="0123456789", cached=1, batch=9, outputs_sha256="c" * 64,
        flags="outside", inputs='{"x": 1}', outputs="{}", trace_id="e" * 32,
        digest_method="hmac-sha256:" + "f" * 16,
    )  # fmt: skip


def _clock(at_us: int) -> FixedClock:
    clock = FixedClock()
    clock.at_us = at_us
    return clock


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Where a replica writes and the collector reads."""
    return tmp_path / "spool"


def _write(producer: Producer, records: Sequence[PredictionRecord]) -> None:
    common = {name: getattr(records[0], name) for name in COMMON}
    form = producer.form(PredictionRecord, common)
    own = [{name: getattr(one, name) for name in FIELDS[len(COMMON) :]} for one in records]
    producer.write([], [form.line(row) for row in own])


@pytest.fixture
def collect(engine: Engine, spool: Path) -> Callable[[], Any]:
    """Moves what replicas wrote into SQL."""
    return Metering(FactStore(engine), SpoolFolder(spool), _clock(NOW)).collect


@pytest.fixture
def stored(engine: Engine, spool: Path, collect: Callable[[], Any]) -> PredictionStore:
    """Two replicas' segments, one repeated answer, one from the future, one segment erased."""
    left, right = (Producer(spool, f"replica:digits/{n}") for n in (1, 2))
    _write(left, [_record(f"old-{n}", NOW - 40 * DAY + n) for n in range(3)])
    _write(left, [_record(f"l-{n}") for n in range(4)])
    _write(right, [_record("r-0"), _record("l-1"), _record("late", NOW + 9 * DAY)])
    _write(left, [_record(f"m-{n}") for n in range(3)])
    found = collect()
    assert (found.segments, found.facts, found.conflicts, found.damaged) == (4, 11, 1, 0)
    erased = _retention(engine, {"digits": 30}).erase("ada")
    assert [(one.segments, one.predictions) for one in erased] == [(1, 3)]
    store = PredictionStore(engine)
    assert store.check().broken == ()
    return store


def _retention(engine: Engine, days: dict[str, int], now_us: int = NOW) -> Retention:
    return Retention(ErasureStore(engine), lambda: days, _clock(now_us))


@contextmanager
def _forced(engine: Engine) -> Iterator[Any]:
    """A connection of somebody whom neither triggers nor foreign keys stop."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("set local session_replication_role = replica"))
            yield connection
        return
    query = text("select name, sql from sqlite_master where type = 'trigger' "
                 "and (tbl_name like 'prediction%' or tbl_name = 'label')")  # fmt: skip
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.execute("pragma foreign_keys = off")
        try:
            with connection.begin():
                triggers = connection.execute(query).all()
                for name, _ in triggers:
                    connection.execute(text(f"drop trigger {name}"))
                yield connection
                for _, statement in triggers:
                    connection.exec_driver_sql(statement)
        finally:
            raw.execute("pragma foreign_keys = on")


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_every_column_is_covered(stored: PredictionStore, engine: Engine) -> None:
    """Another value, or none, anywhere in a first or last row is found."""
    for table in CHAINED:
        with engine.connect() as connection:
            rows = connection.execute(select(table)).mappings().all()
        assert rows, table.name
        key = list(table.primary_key)
        for row in (rows[0], rows[-1]):
            at = [column == row[column.name] for column in key]
            for column in table.columns:
                _find(stored, engine, table, at, row, column.name)


def _find(
    store: PredictionStore, engine: Engine, table: Table, at: list[Any], row: Any, name: str
) -> None:
    kept = row[name]
    other = f"{kept}x" if isinstance(table.c[name].type, Text) else (kept or 0) + 1_000
    with _forced(engine) as connection:
        changed = update(table).where(*at).values({name: other})
        assert connection.execute(changed).rowcount == 1
    broken = store.check().broken
    assert broken, f"{table.name}.{name} of {dict(row)}"
    own = [other if column is table.c[name] else row[column.name] for column in table.primary_key]
    with _forced(engine) as connection:
        here = [column == value for column, value in zip(table.primary_key, own, strict=True)]
        connection.execute(update(table).where(*here).values({name: kept}))


def test_a_wrong_row_is_named(stored: PredictionStore, engine: Engine) -> None:
    """Whoever has to look knows which prediction was changed, and where it stands."""
    p = audit.prediction
    with _forced(engine) as connection:
        connection.execute(update(p).where(p.c.prediction_id == "l-2").values(version=2))
    assert stored.check().broken == (
        "segment 2: prediction l-2 at place 3: its content was changed after it was written",
    )
    assert stored.check(segment=3).broken == ()


def test_a_missing_added_or_swapped_row_is_found(stored: PredictionStore, engine: Engine) -> None:
    """Records cannot come, go or change places."""
    p, a = audit.prediction, audit.prediction_aside

    def what(*changes: Any) -> str:
        with engine.connect() as connection:
            before = {table: connection.execute(select(table)).mappings().all() for table in (p, a)}
        with _forced(engine) as connection:
            for change in changes:
                connection.execute(change)
        broken = stored.check().broken
        with _forced(engine) as connection:
            for table, rows in before.items():
                connection.execute(delete(table))
                connection.execute(insert(table), [dict(row) for row in rows])
        assert stored.check().broken == ()
        return "; ".join(broken)

    def moved(name: str, place: int) -> Any:
        return update(p).where(p.c.prediction_id == name).values(place=place)

    row = record_fields(_record("new")) | {"classes": "[1, 0]"}
    assert "place 2 is missing" in what(delete(p).where(p.c.prediction_id == "l-1"))
    assert "place 4 of 4 is missing" in what(delete(p).where(p.c.prediction_id == "l-3"))
    assert "place 2 is missing" in what(delete(a).where(a.c.place == 2))
    assert "segment 3: its predictions are missing" in what(delete(p).where(p.c.segment == 3))
    assert "was added" in what(insert(p).values(**row, segment=3, place=4, link="0" * 16))
    assert "without a segment" in what(insert(p).values(**row))
    assert "no such segment" in what(insert(p).values(**row, segment=9, place=1, link="0" * 16))
    assert "was erased" in what(insert(p).values(**row, segment=1, place=1, link="0" * 16))
    assert "l-1 at place 1" in what(moved("l-0", 99), moved("l-1", 1), moved("l-0", 2))


def test_a_missing_added_or_swapped_segment_is_found(
    stored: PredictionStore, engine: Engine
) -> None:
    """Segments with all of their predictions cannot go unseen either, the newest included."""
    p, s, a = audit.prediction, audit.prediction_segment, audit.prediction_aside
    tables = (s, p, a)

    def what(*changes: Any) -> str:
        with engine.connect() as connection:
            before = {one: connection.execute(select(one)).mappings().all() for one in tables}
        with _forced(engine) as connection:
            for change in changes:
                connection.execute(change)
        broken = stored.check().broken
        with _forced(engine) as connection:
            for table in reversed(tables):
                connection.execute(delete(table))
            for table, rows in before.items():
                connection.execute(insert(table), [dict(row) for row in rows])
        return "; ".join(broken)

    def gone(number: int) -> list[Any]:
        return [delete(one).where(one.c.segment == number) for one in (p, a)] + [
            delete(s).where(s.c.seq == number)
        ]

    assert "prediction_segment 2" in what(*gone(2))
    assert "the chain of segments ends at 3" in what(*gone(4))
    swap = [update(p).where(p.c.segment == old).values(segment=new)
            for old, new in ((2, 99), (3, 2), (99, 3))]  # fmt: skip
    assert "segment 2: " in what(*swap)
    copy = select(*[(s.c.seq + 4).label("seq") if c is s.c.seq else c + 10 if c is s.c.number else c
                    for c in s.c]).where(s.c.seq == 4)  # fmt: skip
    assert "segment 8: its predictions are missing" in what(insert(s).from_select(list(s.c), copy))


def test_a_boots_lost_segment_is_missed(
    engine: Engine, spool: Path, collect: Callable[[], Any]
) -> None:
    """A file that was taken out of the spool leaves a gap that the next segment shows."""
    producer = Producer(spool, "replica:digits/1")
    for name in "abc":
        _write(producer, [_record(name)])
    sorted(spool.glob("*.jsonl"))[1].unlink()
    collect()
    broken = PredictionStore(engine).check().broken
    assert broken == (f"boot {producer.boot_id}: segment 2 never arrived",)


def test_a_segment_that_comes_again_changes_nothing(
    engine: Engine, spool: Path, collect: Callable[[], Any]
) -> None:
    """The collector may be killed before it deletes a file; another segment there is refused."""
    producer = Producer(spool, "replica:digits/1")
    _write(producer, [_record("a"), _record("b")])
    (path,) = spool.glob("*.jsonl")
    data = path.read_bytes()
    assert collect().facts == 2
    path.write_bytes(data)
    assert (collect().facts, collect().damaged) == (0, 0)
    other = Producer(spool, "replica:digits/1")
    other.boot_id, other._sealing._boot_id = producer.boot_id, producer.boot_id
    _write(other, [_record("c")])
    assert collect().damaged == 1
    check = PredictionStore(engine).check()
    assert (check.segments, check.predictions, check.broken) == (1, 2, ())


def test_predictions_that_no_replica_sealed_are_sealed_on_arrival(engine: Engine) -> None:
    """Segments of an earlier version's replicas: one chain for each model's, repeats left out."""
    store = FactStore(engine)
    facts = [_record("a"), _record("b", model="other"), _record("a"), _record("c")]
    assert store.ingest(facts, NOW) == Ingested(3, 1, 0)
    assert store.ingest(facts, NOW) == Ingested(0, 4, 0)
    assert store.ingest([_record("d"), _record("e", NOW + 2 * DAY)], NOW) == Ingested(1, 0, 1)
    check = PredictionStore(engine).check()
    assert (check.segments, check.predictions, check.broken) == (3, 4, ())


def test_a_retried_request_is_one_prediction_and_says_so(stored: PredictionStore) -> None:
    """The first answer stands under its id; that there was another one is kept and told."""
    found = stored.prediction("l-1")
    assert found is not None and (found["segment"], found["place"]) == (2, 2)
    assert found["repeats"] == 1
    assert stored.prediction("late") is None


def test_what_was_recorded_is_what_is_told(stored: PredictionStore) -> None:
    """Every field of the record comes back from SQL."""
    found = stored.prediction("r-0")
    assert found is not None
    assert {name: found[name] for name in FIELDS} == {
        **record_fields(_record("r-0")), "classes": "[1, 0]",
    }  # fmt: skip


def test_only_whole_segments_past_their_time_go(
    engine: Engine, spool: Path, collect: Callable[[], Any]
) -> None:
    """A segment with one newer prediction stays; a model without a number of days keeps all."""
    left, right = Producer(spool, "replica:digits/1"), Producer(spool, "replica:other/1")
    _write(left, [_record("a", NOW - 31 * DAY), _record("b", NOW - 30 * DAY)])
    _write(left, [_record("c", NOW - 31 * DAY), _record("d", NOW - 29 * DAY)])
    _write(right, [replace(_record("e", 1), model="other")])
    collect()
    store = PredictionStore(engine)
    assert LabelStore(engine).add([("a", [1, 0]), ("c", [1, 1]), ("e", [7])], "seed", NOW) == (3, 0)
    assert _retention(engine, {"digits": 0}).due() == []
    retention = _retention(engine, {"digits": 30})
    told = [Erased("digits", 30, 1, 2, NOW - 31 * DAY, NOW - 30 * DAY)]
    assert retention.due() == told
    assert store.prediction("a") is not None
    assert retention.erase("ada") == told
    assert retention.erase("ada") == []
    assert [store.prediction(name) is None for name in "abcde"] == [True, True, False, False, False]
    with reading(engine) as connection:
        labels = set(connection.execute(select(audit.label.c.prediction_id)).scalars())
        erasure = connection.execute(select(audit.prediction_erasure)).mappings().one()
    assert labels == {"c", "e"}
    assert (erasure["records"], erasure["retention_days"], erasure["actor"]) == (2, 30, "ada")
    check = store.check()
    assert (check.segments, check.predictions, check.erased, check.broken) == (3, 3, 1, ())


def test_erasing_is_refused_without_a_mark(stored: PredictionStore, engine: Engine) -> None:
    """Nobody deletes predictions, their labels or what was set aside, unless it is on record."""
    LabelStore(engine).add([("l-0", [1])], "seed", NOW)
    for table in ("prediction", "label", "prediction_aside", "prediction_erasure"):
        with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
            connection.execute(text(f"delete from {table}"))


def test_an_erasure_before_its_time_is_found(
    engine: Engine, spool: Path, collect: Callable[[], Any]
) -> None:
    """A mark with a made-up reason does not hold."""
    _write(Producer(spool, "replica:digits/1"), [_record("a", NOW - 3 * DAY)])
    collect()
    (due,) = ErasureStore(engine).due({"digits": 3}, NOW, 9)
    ErasureStore(engine).erase([replace(due, retention_days=4)], "eve", NOW)
    assert PredictionStore(engine).check().broken == (
        "erasure 1: segment 1 was erased before its time",
    )


def test_earlier_predictions_are_sealed_when_the_schema_is_brought_up(
    empty_engine: Engine,
) -> None:
    """What an earlier version recorded is kept as it is, and from then on cannot be changed."""
    upgrade(empty_engine, "0004")
    names = FIELDS[:4] + FIELDS[5:18]
    columns, marks = ", ".join(names), ", ".join(f":{name}" for name in names)
    with empty_engine.begin() as connection:
        for n in range(7):
            one = _record(f"p-{n}", NOW + n, model=f"m{n % 2}")
            row = {name: getattr(one, name) for name in names} | {"classes": "[1, 0]"}
            statement = f"insert into prediction ({columns}) values ({marks})"
            connection.execute(text(statement), row)
    migrate(empty_engine)
    store = PredictionStore(empty_engine)
    check = store.check()
    assert (check.segments, check.predictions, check.broken) == (2, 7, ())
    found = store.prediction("p-3")
    assert found is not None and (found["cached"], found["digest_method"]) == (None, None)
    with pytest.raises(IntegrityError, match="append-only"), empty_engine.begin() as connection:
        connection.execute(text("update prediction set status = 500"))
    FactStore(empty_engine).ingest([_record("new")], NOW)
    assert store.check().broken == ()
    with _forced(empty_engine) as connection:
        connection.execute(text("update prediction set status = 500 where prediction_id = 'p-3'"))
    assert len(store.check().broken) == 1


def test_copies_for_a_shadow_are_no_requests_of_clients(engine: Engine) -> None:
    """What a rollout counts as requests of a version is what clients asked it."""
    told = [_record(f"p-{n}") for n in range(4)]
    copy = replace(told[0], prediction_id="s-0", version=4, arm="shadow", shadows="p-0")
    FactStore(engine).ingest([*told, copy], NOW)
    store = PredictionStore(engine)
    assert [(row["version"], row["requests"]) for row in store.counts("digits")] == [(3, 4)]


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_any_flipped_bit_is_found(stored: PredictionStore, engine: Engine) -> None:
    """250 bits, drawn from every row and column of the chain's tables (F14)."""
    with engine.connect() as connection:
        places = [
            (table, rowid, column.name)
            for table in CHAINED
            for rowid in connection.execute(text(f"select rowid from {table.name}")).scalars()
            for column in table.columns
        ]

    @given(place=st.sampled_from(places), bit=st.integers(0, 2**20))
    @settings(
        max_examples=250,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def flip(place: tuple[Table, int, str], bit: int) -> None:
        table, rowid, name = place
        done = False
        with suppress(IntegrityError), _forced(engine) as connection:
            at = f"from {table.name} where rowid = {rowid}"
            kept = connection.execute(
                text(f"select case typeof({name}) when 'text' then cast({name} as blob) "
                     f"else {name} end {at}")).scalar_one()  # fmt: skip
            changed = _flipped(kept, bit, isinstance(table.c[name].type, Text))
            _set(connection, table, rowid, name, changed)
            done = True
        if not done:  # a key or a check of the database refused it
            return
        try:
            assert stored.check().broken, (table.name, rowid, name, changed)
        finally:
            with _forced(engine) as connection:
                moved = name == "seq" and table is not audit.audit_head
                _set(connection, table, changed if moved else rowid, name, kept)

    flip()
    assert stored.check().broken == ()


def _set(connection: Any, table: Table, rowid: int, name: str, value: Any) -> None:
    given = "cast(:value as text)" if isinstance(value, bytes) else ":value"
    connection.execute(
        text(f"update {table.name} set {name} = {given} where rowid = :rowid"),
        {"value": value, "rowid": rowid},
    )


def _flipped(value: Any, bit: int, is_text: bool) -> Any:
    if value is None:
        return b"\x01" if is_text else 1
    if isinstance(value, bytes):
        changed = bytearray(value or b"\0")
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
        return bytes(changed)
    return value ^ 1 << bit % 62


def test_the_check_counts_what_it_went_through(stored: PredictionStore, engine: Engine) -> None:
    """Segments, predictions (those aside, too), erased segments, and the head to be noted."""
    check = stored.check()
    assert (check.segments, check.predictions, check.erased) == (4, 10, 1)
    with reading(engine) as connection:
        newest = connection.execute(select(func.max(audit.prediction_segment.c.seq))).scalar_one()
    assert check.head == (newest, stored.hash_of_segment(str(newest)))
    assert stored.hash_of_segment("nine") is None
