import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from steelyard.adapters.sql.database import VERSION_TABLE, migrate
from steelyard.adapters.sql.tables import metadata
from steelyard.domain.errors import Unavailable

pytestmark = pytest.mark.integration


def test_the_migrations_make_the_declared_tables(engine: Engine) -> None:
    """After migrating, nothing is left for alembic to change."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        difference = compare_metadata(context, metadata)
    assert difference == []


def test_migrating_twice_changes_nothing(empty_engine: Engine) -> None:
    """The first start makes the schema; every later one finds it."""
    assert migrate(empty_engine)
    before = sorted(inspect(empty_engine).get_table_names())
    assert not migrate(empty_engine)
    assert sorted(inspect(empty_engine).get_table_names()) == before
    assert set(metadata.tables) < set(before)


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
