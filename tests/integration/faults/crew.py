"""Real producers and posters for a test to kill: one process that forks each in a moment.

Reads one JSON object a line, ``{"role": "producer" | "poster", "home": ..., ...}``, and answers
with the new process's id. A process works until SIGTERM asks it to end, or a kill does not ask.
"""

import itertools
import json
import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from steelyard.adapters.spool import SpoolFolder
from steelyard.adapters.sql.catalog import CatalogStore
from steelyard.adapters.sql.database import open_engine
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.adapters.sql.periods import PeriodStore
from steelyard.adapters.system_clock import SystemClock
from steelyard.domain.errors import Unavailable
from steelyard.domain.model_version import FlopsProfile, ModelVersion, Signature
from steelyard.services.books import Books
from steelyard.services.metering import Metering
from steelyard.settings import Settings
from steelyard_serving.meter import Meter

PAUSE_S = 0.002


def post(home: Path, database: str, die_at: int | None, stop: threading.Event) -> None:
    """Collect and post without a rest; an outage is waited out.

    With ``die_at``, the process kills itself before its statement of that number.
    """
    engine, clock = open_engine(database), SystemClock()
    if die_at is not None:
        _die_at(engine, die_at)
    facts, ledger = FactStore(engine), LedgerStore(engine)
    metering = Metering(facts, SpoolFolder(home / "spool"), clock)
    books = Books(facts, ledger, PeriodStore(engine), CatalogStore(engine), clock)
    while not stop.wait(PAUSE_S):
        try:
            metering.collect()
            books.post()
        except Unavailable:
            stop.wait(0.05)


def _die_at(engine: Engine, number: int) -> None:
    left = itertools.count(number - 1, -1)

    def die(*_: Any) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute", die)
    event.listen(engine, "commit", die)


def produce(home: Path, version: int, tally: str, stop: threading.Event) -> None:
    """Serve as a replica does, and note each request in ``tally`` before the meter counts it."""
    made = ModelVersion("m", version, "run", "s", "model.onnx", "d" * 64, 1, "full", "trained",
                        Signature((), ()), 1,
                        flops=FlopsProfile(7, None, "by hand", 1.0))  # fmt: skip
    with open(tally, "r+b") as file, mmap.mmap(file.fileno(), 8) as counter:
        meter = Meter(Settings(home=home, meter_interval_s=0.05), made)
        added = 0
        while not stop.is_set():
            added += 1
            counter[:8] = added.to_bytes(8, "little")
            started = time.perf_counter_ns()
            time.sleep(PAUSE_S)
            meter.add("serve", time.perf_counter_ns() - started, items=1, requests=1)
        meter.stop()


def work(order: dict[str, Any]) -> None:
    """What a forked process does."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    home = Path(order["home"])
    if order["role"] == "poster":
        post(home, order["database"], order.get("die_at"), stop)
    else:
        produce(home, order["version"], order["tally"], stop)


def main() -> None:
    """Fork one process a line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: leave no zombies
    # A new process is asked to end only when it can hear it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status = 1
            try:
                work(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
