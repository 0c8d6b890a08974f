"""Five years of 200 versions: does every report still answer, and do the sums still hold?

    python tests/benchmarks/ledger_at_scale.py [--windows 10000000] [--folder DIR]

A seeded generator writes one-minute usage windows of 200 versions of 20 models over five years
through the same ingestion and posting as in production, in order of time. Then each report that
a dashboard shows is timed, and the roll-ups are rebuilt from entries and windows and compared.
With ``--folder`` the ledger is kept, and a second run only times the reports.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import func, select

from steelyard.adapters.sql import tables as t
from steelyard.adapters.sql.database import reading
from steelyard.bootstrap import Platform
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.services.outlooks import Scope
from steelyard.settings import Settings

MODELS, VERSIONS, YEARS, SEED = 20, 10, 5, 20_260_101
MINUTE_US, HOUR_US, YEAR_US = 60_000_000, 3_600_000_000, 31_557_600_000_000
FIRST_US = 1_609_459_200_000_000  # 2021-01-01
ROUNDS = 20


def hours(windows: int) -> Iterator[tuple[int, int, int]]:
    """Which version of which model is busy in which hour: (start, model, version), by time."""
    random.seed(SEED)
    wanted, span = windows // 60, YEARS * YEAR_US // HOUR_US
    per_hour = wanted / span
    owed = 0.0
    for number in range(span):
        owed += per_hour
        count, owed = int(owed), owed - int(owed)
        newest = 1 + number * VERSIONS // span
        for place in random.sample(range(MODELS), min(count, MODELS)):
            yield FIRST_US + number * HOUR_US, place, max(1, newest - random.randrange(2))


def facts(start_us: int, model: int, version: int, seq: int) -> Iterator[Fact]:
    """One hour of a version: 60 supply windows with a usage window each."""
    name, resource = f"model-{model:02}", f"replica/model-{model:02}/{version}/0"
    for minute in range(60):
        at = start_us + minute * MINUTE_US
        busy = random.randrange(MINUTE_US) * 1_000
        yield SupplyWindow(resource, "boot", seq + 2 * minute, resource, at, at + MINUTE_US,
                           MINUTE_US, cpu_us=busy // 1_000)  # fmt: skip
        yield UsageWindow(
            resource, "boot", seq + 2 * minute + 1, resource, at, at + MINUTE_US, name, version,
            "inference", "serve", requests=busy // 10**9, items=busy // 10**9, busy_ns=busy,
            flop=busy * 10,
        )  # fmt: skip


def fill(platform: Platform, windows: int) -> None:
    """Write the history; the generator is seeded, so it is the same everywhere."""
    now = FIRST_US + YEARS * YEAR_US
    for model in range(MODELS):
        for version in range(1, VERSIONS + 1):
            name = f"model-{model:02}"
            platform.catalog.record_version(ModelVersion(
                name, version, f"run-{model}-{version}", "generated", "model.onnx", "0" * 64, 1,
                "base", "trained", Signature((), ()), FIRST_US,
            ))  # fmt: skip
            resource = Resource(f"replica/{name}/{version}/0", "replica", "generic-vcpu", 1, 1,
                                "vcpu-hour", FIRST_US, "DEU")  # fmt: skip
            platform.facts.ingest([resource, *training(name, version)], now)
    numbers: dict[tuple[int, int], int] = {}
    report: list[Fact] = []
    begun, written = time.perf_counter(), 0
    for start_us, model, version in hours(windows):
        seq = numbers.get((model, version), 1)
        numbers[model, version] = seq + 120
        report += facts(start_us, model, version, seq)
        if len(report) >= 24_000:
            written += len(report) // 2
            platform.facts.ingest(report, now)
            platform.books.post()
            report = []
            rate = written / (time.perf_counter() - begun)
            print(f"\r{written:>12,} windows, {rate:,.0f} windows/s", end="", flush=True)
    platform.facts.ingest(report, now)
    platform.books.post()
    print(f"\r{written + len(report) // 2:>12,} windows in {time.perf_counter() - begun:,.0f} s")


def training(name: str, version: int) -> Iterator[Fact]:
    """A day of training before a version's first traffic."""
    resource = f"train/{name}/{version}"
    yield Resource(resource, "train_worker", "generic-vcpu", 8, 1, "vcpu-hour", FIRST_US, "DEU")
    for hour in range(24):
        at = FIRST_US + hour * HOUR_US
        yield SupplyWindow(resource, "boot", 2 * hour, resource, at, at + HOUR_US, 8 * HOUR_US)
        yield UsageWindow(resource, "boot", 2 * hour + 1, resource, at, at + HOUR_US, name,
                          version, "training", "train", f"run-{name}-{version}", 1,
                          busy_ns=HOUR_US * 1_000, flop=10**18)  # fmt: skip


def timed(name: str, act: Callable[[], object]) -> None:
    """Print the quantiles of a report's time."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    cuts = statistics.quantiles(seconds, n=20)
    print(f"{name:<40} p50 {cuts[9] * 1e3:>8.1f} ms   p95 {cuts[18] * 1e3:>8.1f} ms")


def sums(platform: Platform) -> list[object]:
    """Every row of the roll-ups that is not 0, in order."""
    found: list[object] = []
    with reading(platform.engine) as connection:
        for table in (t.balance, t.rollup_day):
            query = select(table).where(table.c.amount != 0)
            found += sorted(tuple(row) for row in connection.execute(query))
        found += sorted(tuple(row) for row in connection.execute(select(t.usage_day)))
    return found


def main() -> None:
    """Fill, time, rebuild, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.folder or Path(name)
        platform = Platform(Settings(home=folder))
        if not platform.ledger.head():
            fill(platform, chosen.windows)
        with reading(platform.engine) as connection:
            for table in (t.usage_window, t.entry, t.rollup_day, t.usage_day):
                rows = connection.execute(select(func.count()).select_from(table)).scalar_one()
                print(f"{table.name:<40} {rows:>12,} rows")
        timed("all models", platform.statements.models)
        timed("one model, everything", lambda: platform.statements.model("model-00"))
        timed("the whole ledger", platform.statements.ledger)
        timed("forecast of everything", lambda: platform.outlooks.forecast(Scope()))
        timed(
            "forecast of one model", lambda: platform.outlooks.forecast(Scope("model", "model-00"))
        )
        timed("budgets", platform.budgets.lines)
        before, start = sums(platform), time.perf_counter()
        platform.ledger.rebuild()
        print(f"{'rebuild the roll-ups':<40} {time.perf_counter() - start:>12,.0f} s")
        print("the same totals" if sums(platform) == before else "OTHER TOTALS")
        platform.engine.dispose()


if __name__ == "__main__":
    main()
