"""Engines: SQLite in WAL mode or PostgreSQL, one write transaction at a time where it matters."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.rollups import rebuild
from steelyard.domain.errors import Unavailable

VERSION_TABLE = "steelyard_alembic_version"
"""MLflow uses ``alembic_version``; a shared database must not mix the two."""
CHAIN_LOCK = 0x57EE1  # any constant; names the advisory lock of everything that appends to a chain


def open_engine(url: str) -> Engine:
    """An engine with the pragmas and types that the tables rely on."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(parsed, connect_args={"timeout": 30})
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, pool_pre_ping=True)


def _sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON",
                   "recursive_triggers=ON", "busy_timeout=30000", "wal_autocheckpoint=8000",
                   "cache_size=-65536"):  # fmt: skip
        connection.execute(f"pragma {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    mode = "" if connection.get_execution_options().get("steelyard_read") else " immediate"
    connection.exec_driver_sql(f"begin{mode}")


@contextmanager
def _answering(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        cause = str(error.orig).strip().splitlines()[0]
        raise Unavailable(
            f"The database {engine.url.render_as_string()} does not answer: {cause}.",
            "What was measured waits in the spool; start the database again.",
        ) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction; on PostgreSQL, chains are serialised by an advisory lock.

    Raises:
        Unavailable: the database does not answer; nothing was written.
    """
    with _answering(engine), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent read that blocks no writer.

    Raises:
        Unavailable: the database does not answer.
    """
    with _answering(engine), engine.connect() as connection:
        connection = connection.execution_options(steelyard_read=True)
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def migrate(engine: Engine) -> bool:
    """Bring the schema and the sums to this version's; False when they are there already.

    Raises:
        Unavailable: the database was written by a newer Steelyard, or does not answer.
    """
    with _answering(engine), engine.connect() as connection:
        current = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE}
        ).get_current_revision()
    script = ScriptDirectory.from_config(_alembic(engine))
    if current == script.get_current_head():
        return _sum_anew(engine)
    if current is not None and current not in {r.revision for r in script.walk_revisions()}:
        raise Unavailable(
            f"The ledger's schema is {current}, which this version does not know.",
            "Install the Steelyard that wrote it, or a newer one.",
        )
    upgrade(engine)
    _sum_anew(engine)
    return True


def _sum_anew(engine: Engine) -> bool:
    """Make the sums that reports read anew if another version made them."""
    with reading(engine) as connection:
        if projections.are_current(connection):
            return False
    with writing(engine) as connection:
        if not projections.are_current(connection):
            rebuild(connection)
    return True


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run the migrations up to a revision, without making the sums."""
    command.upgrade(_alembic(engine), revision)


def _alembic(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    return config
