from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, insert, inspect, select, text

from steelyard.adapters.sql.database import VERSION_TABLE, migrate, reading, upgrade
from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.adapters.sql.projections import PROJECTIONS
from steelyard.adapters.sql.schema import SCHEMA
from steelyard.domain.errors import Unavailable
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

HOUR = 3_600_000_000


def test_the_migrations_make_the_declared_tables(engine: Engine) -> None:
    """After migrating, nothing is left for alembic to change."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        difference = compare_metadata(context, SCHEMA)
    assert difference == []


def test_migrating_twice_changes_nothing(empty_engine: Engine) -> None:
    """The first start makes the schema; every later one finds it."""
    assert migrate(empty_engine)
    before = sorted(inspect(empty_engine).get_table_names())
    assert not migrate(empty_engine)
    assert sorted(inspect(empty_engine).get_table_names()) == before
    assert set(SCHEMA.tables) < set(before)


def test_a_ledger_of_the_first_schema_is_brought_up_with_its_sums(
    books: Bookkeeping, empty_engine: Engine
) -> None:
    """Facts and entries stay as they are; the sums that reports read are made anew from them."""
    replica = Resource("serve/m/0", "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")
    books.post(replica, SupplyWindow("p", "boot", 1, "serve/m/0", 0, HOUR, HOUR),
               UsageWindow("p", "boot", 2, "serve/m/0", 0, HOUR, "m", 1, "inference", "serve",
                           requests=3, busy_ns=10**12, flop=10**20))  # fmt: skip
    upgrade(empty_engine, "0001")
    inspected = inspect(empty_engine)
    old = {name: [c["name"] for c in inspected.get_columns(name)]
           for name in inspected.get_table_names()}  # fmt: skip
    with reading(books.engine) as source, empty_engine.begin() as target:
        for table in SCHEMA.sorted_tables:
            if table.name in old and table not in PROJECTIONS:
                wanted = select(*(table.c[name] for name in old[table.name]))
                rows = source.execute(wanted).mappings().all()
                if rows:
                    target.execute(insert(table), [dict(row) for row in rows])
    assert migrate(empty_engine)
    assert not migrate(empty_engine)
    for table in PROJECTIONS:
        with reading(books.engine) as source, reading(empty_engine) as target:
            kept, made = (c.execute(select(table)).all() for c in (source, target))
        assert kept and sorted(made) == sorted(kept), table.name
    assert LedgerStore(empty_engine).first_break() is None


def test_what_an_earlier_version_inferred_is_taken_back_too(
    empty_engine: Engine, tmp_path: Path
) -> None:
    """A resource that it thought dead and that came back; one that stayed silent stays ended."""
    upgrade(empty_engine, "0002")
    window = (
        "insert into supply_window (idem_key, content_sha256, producer_id, boot_id, seq,"
        " resource_id, window_start_us, window_end_us, received_us, reserved_us, energy_method)"
        " values ('{key}', 'c', '{producer}', '{key}', 1, '{resource}', {start}, {end}, 9, 1,"
        " 'unknown')"
    )
    with empty_engine.begin() as connection:
        for name in ("back", "dead", "mute"):
            connection.execute(text(
                "insert into resource (resource_id, kind, device_model, device_count, slots,"
                f" price_sku, started_us) values ('{name}', 'replica', 'gpu', 1, 1, 'sku', 5)"
            ))  # fmt: skip
            inferred = f"inferred:{name}"
            connection.execute(text(window.format(
                key=inferred, producer="collector", resource=name, start=20, end=30)))  # fmt: skip
            connection.execute(text(f"insert into resource_seen values ('{name}', 30)"))
            connection.execute(text(f"insert into resource_end values ('{name}', 30, 1)"))
            connection.execute(text(f"insert into waiting_window values ('{inferred}', 20)"))
        for key, name, start, end in (("1", "back", 10, 20), ("2", "back", 25, 35),
                                      ("3", "dead", 10, 20)):  # fmt: skip
            connection.execute(text(window.format(
                key=key, producer="p", resource=name, start=start, end=end)))  # fmt: skip
    assert migrate(empty_engine)
    books = Bookkeeping(empty_engine, tmp_path / "spool")
    assert [(r.resource_id, at) for r, at in books.facts.silent_resources(HOUR)] == [("back", 35)]
    with reading(empty_engine) as connection:
        seen = {row[0]: row[1] for row in connection.execute(text("select * from resource_seen"))}
        waits = connection.execute(text("select idem_key from waiting_window")).scalars().all()
    assert seen == {"back": 35, "dead": 20, "mute": 5}
    assert sorted(waits) == ["inferred:dead", "inferred:mute"]


def test_sums_of_another_version_are_made_anew(books: Bookkeeping) -> None:
    """Whoever finds sums that another Steelyard made does not add to them."""
    with books.engine.begin() as connection:
        connection.execute(text("update projection set version = 0"))
        connection.execute(text("drop table rollup_day"))
    assert migrate(books.engine)
    assert "rollup_day" in inspect(books.engine).get_table_names()
    assert not migrate(books.engine)


def test_a_newer_schema_is_refused(engine: Engine) -> None:
    """An old Steelyard does not write into what a newer one made; the message names both."""
    with engine.begin() as connection:
        connection.execute(text(f"update {VERSION_TABLE} set version_num = '9999'"))
    with pytest.raises(Unavailable, match="schema is 9999") as refused:
        migrate(engine)
    assert "newer" in refused.value.hint


def test_mlflow_s_migrations_are_not_mixed_with_ours(engine: Engine) -> None:
    """The revision is kept under a name of its own: a database may be shared with MLflow."""
    assert "alembic_version" not in inspect(engine).get_table_names()
