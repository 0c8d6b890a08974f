"""Five years of 200 versions: is every report there at once, and do the sums still hold?

    python tests/benchmarks/ledger_at_scale.py [--windows 10000000] [--minutes 1] [--folder DIR]

A seeded generator writes one-minute usage windows of 200 versions of 20 models over five years
through the same ingestion and posting as in production, in order of time. A version's replica
serves it in five ways (online, batch, stream, edge, warm-up), so that there are five usage windows
to each supply window; two of the models also share a deployment. Then each report that the
dashboard and the command line show is timed, and the roll-ups are made anew from entries and
windows and compared. With ``--folder`` the ledger is kept, and a second run only times the
reports.

Charges are posted by the hour: with ``--minutes 60`` the same hours give as many entries and rows
of roll-ups from a sixtieth of the windows, in a sixth of the time. Reports read nothing else.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from sqlalchemy import func, select

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.database import reading
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.adapters.system_clock import SystemClock
from steelyard.bootstrap import Platform
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Activity, Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.domain.span import EPOCH, span_of, today
from steelyard.services.outlooks import MEASURES, PERIODS, Scope
from steelyard.settings import Settings

MODELS, VERSIONS, YEARS, SEED = 20, 10, 5, 20_260_101
ACTIVITIES: tuple[Activity, ...] = ("serve", "batch", "stream", "edge", "warmup")
"""What a replica's windows are about."""
TEAMS, BUDGETS = 4, 10
MINUTE_US, HOUR_US, YEAR_US = 60_000_000, 3_600_000_000, 31_557_600_000_000
FIRST_US = 1_609_459_200_000_000  # 2021-01-01
END_US = FIRST_US + YEARS * YEAR_US
ROUNDS = 20
AIM_MS = 200
PROGRESS_S = 2.0


class HistoryClock(SystemClock):
    """A clock that stands at the end of the history: reports are about it, on any day."""

    def now_us(self) -> int:
        """The end of the history."""
        return END_US


class HistoryPlatform(Platform):
    """The platform at the end of the history."""

    @cached_property
    def clock(self) -> HistoryClock:
        """The history's."""
        return HistoryClock()


def hours(windows: int) -> Iterator[tuple[int, int, int]]:
    """Which version of which model is busy in which hour: (start, model, version), by time."""
    random.seed(SEED)
    wanted, span = windows // (60 * len(ACTIVITIES)), YEARS * YEAR_US // HOUR_US
    per_hour = wanted / span
    owed = 0.0
    for number in range(span):
        owed += per_hour
        count, owed = int(owed), owed - int(owed)
        newest = 1 + number * VERSIONS // span
        for place in random.sample(range(MODELS), min(count, MODELS)):
            yield FIRST_US + number * HOUR_US, place, max(1, newest - random.randrange(2))


def facts(
    resource: str, start_us: int, who: Sequence[tuple[int, int, Activity]], seq: int, minutes: int
) -> list[Fact]:
    """One hour of a replica: its supply windows, with a usage window of all that it did."""
    made: list[Fact] = []
    length = minutes * MINUTE_US
    for at in range(start_us, start_us + HOUR_US, length):
        numbers = range(seq + len(made), seq + len(made) + 1 + len(who))
        made.append(SupplyWindow(resource, "boot", numbers[0], resource, at, at + length, length,
                                 cpu_us=length // 2))  # fmt: skip
        for number, (model, version, activity) in zip(numbers[1:], who, strict=True):
            busy = random.randrange(length // len(who)) * 1_000
            made.append(UsageWindow(
                resource, "boot", number, resource, at, at + length, name(model), version,
                "inference", activity, requests=busy // 10**9, items=busy // 10**9, busy_ns=busy,
                flop=busy * 10,
            ))  # fmt: skip
    return made


def name(model: int) -> str:
    """The name of the n-th model."""
    return f"model-{model:02}"


def training(model: int, version: int) -> Iterator[Fact]:
    """A day of training before a version's first traffic."""
    resource = f"train/{name(model)}/{version}"
    yield Resource(resource, "train_worker", "generic-vcpu", 8, 1, "vcpu-hour", FIRST_US, "DEU")
    for hour in range(24):
        at = FIRST_US + hour * HOUR_US
        yield SupplyWindow(resource, "boot", 2 * hour, resource, at, at + HOUR_US, 8 * HOUR_US)
        yield UsageWindow(resource, "boot", 2 * hour + 1, resource, at, at + HOUR_US, name(model),
                          version, "training", "train", f"run-{model}-{version}", 1,
                          busy_ns=HOUR_US * 1_000, flop=10**18)  # fmt: skip


def declare(platform: Platform) -> None:
    """Versions with their training, replicas, teams with models that change hands, budgets."""
    shared = Resource("replica/shared/0", "replica", "generic-vcpu", 1, 1, "vcpu-hour", FIRST_US,
                      "DEU")  # fmt: skip
    platform.facts.ingest([shared], END_US)
    for model in range(MODELS):
        for version in range(1, VERSIONS + 1):
            platform.catalog.record_version(ModelVersion(
                name(model), version, f"run-{model}-{version}", "generated", "model.onnx", "0" * 64,
                1, "base", "trained", Signature((), ()), FIRST_US,
            ))  # fmt: skip
            platform.facts.ingest(training(model, version), END_US)
            replica = Resource(f"replica/{name(model)}/{version}/0", "replica", "generic-vcpu", 1,
                               1, "vcpu-hour", FIRST_US, "DEU")  # fmt: skip
            platform.facts.ingest([replica], END_US)


def assign(platform: Platform) -> None:
    """Teams, half of whose models changed hands half-way, and ten budgets."""
    half_way = EPOCH + timedelta(microseconds=FIRST_US + YEARS * YEAR_US // 2)
    for model in range(MODELS):
        platform.budgets.assign(name(model), f"team-{model % TEAMS}")
        if model % 2:
            platform.budgets.assign(name(model), f"team-{(model + 1) % TEAMS}", half_way)
    scopes = [Scope("model", name(model)) for model in range(BUDGETS // 2)]
    scopes += [Scope("team", f"team-{n % TEAMS}") for n in range(BUDGETS // 2)]
    for number, scope in enumerate(scopes):
        period = PERIODS[number % len(PERIODS)]
        measure = MEASURES[number // len(PERIODS) % len(MEASURES)]
        platform.budgets.set(scope, measure, period, 10**15, 8_000, "benchmark")


def fill(platform: Platform, windows: int, minutes: int) -> None:
    """Write the history; the generator is seeded, so it is the same everywhere."""
    declare(platform)
    numbers: dict[str, int] = {}
    report: list[Fact] = []
    written, begun = 0, time.perf_counter()
    shown = begun

    def hand_in() -> None:
        nonlocal written, shown
        platform.facts.ingest(report, END_US)
        platform.books.post()
        written += sum(isinstance(fact, UsageWindow) for fact in report)
        report.clear()
        now = time.perf_counter()
        if now - shown >= PROGRESS_S:
            print(f"{written:>12,} windows, {written / (now - begun):,.0f} windows/s", flush=True)
            shown = now

    for start_us, model, version in hours(windows):
        resource = f"replica/{name(model)}/{version}/0"
        who = [(model, version, activity) for activity in ACTIVITIES]
        if not model and not start_us // HOUR_US % 24:  # at midnight two models share a replica
            resource, who = "replica/shared/0", [(n, version, "serve") for n in (0, 1)]
        made = facts(resource, start_us, who, numbers.get(resource, 1), minutes)
        numbers[resource] = numbers.get(resource, 1) + len(made)
        report += made
        if len(report) >= 24_000:
            hand_in()
    hand_in()
    print(f"{written:>12,} windows in {time.perf_counter() - begun:,.0f} s")
    assign(platform)


def timed(what: str, act: Callable[[], object]) -> None:
    """Print the quantiles of a report's time, and whether it is within the aim."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    cuts = statistics.quantiles(seconds, n=20)
    p50, p95 = cuts[9] * 1e3, cuts[18] * 1e3
    verdict = "PASS" if p95 < AIM_MS else "over"
    print(f"{what:<44} p50 {p50:>7.1f} ms   p95 {p95:>7.1f} ms   {verdict}", flush=True)


def time_reports(platform: Platform) -> None:
    """Every report that the dashboard and the command line show."""
    statements, outlooks, budgets = platform.statements, platform.outlooks, platform.budgets
    last = statements.model(name(0)).as_of_us
    year = span_of(None, None, "2024", today(last))
    month = span_of(None, None, "2025-11", today(last))
    reports: list[tuple[str, Callable[[], object]]] = [
        ("the names of all models", statements.models),
        ("a line of every model (the dashboard's list)", statements.briefs),
        ("one model, everything on its page", lambda: statements.model(name(0))),
        ("one model, a year", lambda: statements.model(name(0), year)),
        ("one model, a month", lambda: statements.model(name(0), month)),
        ("the whole ledger with its teams", statements.ledger),
        ("the whole ledger, a year", lambda: statements.ledger(year)),
        ("forecast of everything", lambda: outlooks.forecast(Scope())),
        ("forecast of one model", lambda: outlooks.forecast(Scope("model", name(0)))),
        ("forecast of one team", lambda: outlooks.forecast(Scope("team", "team-0"))),
        ("budgets, ten of them", budgets.lines),
        ("budgets of one team", lambda: budgets.lines(Scope("team", "team-0"))),
    ]  # fmt: skip
    for what, act in reports:
        timed(what, act)


def sums(platform: Platform) -> list[object]:
    """Every row of the roll-ups that is not 0, in order."""
    found: list[object] = []
    with reading(platform.engine) as connection:
        for table in projections.PROJECTIONS:
            query = select(table)
            if "amount" in table.c:
                query = query.where(table.c.amount != 0)
            found += sorted((tuple(row) for row in connection.execute(query)), key=str)
    return found


def rebuild(platform: Platform) -> None:
    """Make the roll-ups anew and compare."""
    before, start = sums(platform), time.perf_counter()
    platform.ledger.rebuild()
    print(f"{'rebuild the roll-ups':<44} {time.perf_counter() - start:>11,.0f} s")
    print("the same totals" if sums(platform) == before else "OTHER TOTALS")


def main() -> None:
    """Fill, time, rebuild, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=int, default=1, choices=(1, 5, 10, 60))
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        platform = HistoryPlatform(Settings(home=chosen.folder or Path(folder)))
        if not platform.ledger.head():
            fill(platform, chosen.windows, chosen.minutes)
        with reading(platform.engine) as connection:
            for table in (
                measured.usage_window,
                ledger.entry,
                projections.rollup_day,
                projections.usage_day,
            ):
                rows = connection.execute(select(func.count()).select_from(table)).scalar_one()
                print(f"{table.name:<44} {rows:>11,} rows")
        time_reports(platform)
        rebuild(platform)
        platform.engine.dispose()


if __name__ == "__main__":
    main()
