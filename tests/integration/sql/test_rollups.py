import random
from collections import defaultdict
from typing import Any

import pytest
from sqlalchemy import select, text

from steelyard.adapters.sql.tables import ledger, metadata
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR


def _history() -> list[list[Fact]]:
    """Reports of two replicas around a midnight: in time, twice, out of order, and late."""
    reports: list[list[Fact]] = []
    late: list[Fact] = []
    for number in range(2):
        name = f"serve/shop/{number}"
        resource = Resource(name, "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")
        for n in range(4):
            start = DAY - 2 * HOUR + n * HOUR
            energy = (7 * 10**8, "counter_gpu") if n == 1 else (None, "unknown")
            supply = SupplyWindow(name, "boot", 2 * n + 1, name, start, start + HOUR, HOUR, None,
                                  *energy)  # fmt: skip
            usage = UsageWindow(
                name, "boot", 2 * n + 2, name, start, start + HOUR, "shop", 1 + number,
                "inference", "serve", requests=10 + n, errors=n, cache_hits=1, items=20 + n,
                tokens_in=100, tokens_out=50, busy_ns=(n + 1) * 300 * 10**9,
                flop=None if n == 3 else 10**20 + n,
            )  # fmt: skip
            reports.append([resource, supply, *([] if n == 2 else [usage])])
            late += [usage] if n == 2 else []
    random.Random(3).shuffle(reports)
    return [*reports, reports[0], late]


@pytest.fixture
def history(books: Bookkeeping) -> Bookkeeping:
    """Reports posted one by one, one batch reversed, everything valued anew."""
    books.clock.at_us = 3 * DAY
    for report in _history():
        books.post(*report)
    some = next(books.ledger.entries())["batch_id"]
    standing = books.ledger.batch(some)
    assert standing is not None
    if not standing.reversed:
        books.books.reverse(some, "mistake", "ada")
    books.books.value_anew(0, 2 * DAY)
    return books


def _table(books: Bookkeeping, name: str) -> list[tuple[Any, ...]]:
    """Every row of a sum, but those of nothing: what cancelled out may stay as 0 or go."""
    table = metadata.tables[name]
    with books.engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(table))]
    return sorted((r for r in rows if "amount" not in table.c or r[-1]), key=str)


SUMS = ("balance", "rollup_day", "model_day", "model_month", "usage_day", "usage_month", "boot")


def _ids(books: Bookkeeping) -> dict[tuple[str, str], int]:
    a = ledger.account.c
    with books.engine.connect() as connection:
        query = select(a.path, a.unit, a.account_id)
        return {(row.path, row.unit): row.account_id for row in connection.execute(query)}


def test_balances_and_days_are_the_fold_of_the_entries(history: Bookkeeping) -> None:
    """What reports read is the sum of what the chain holds, per account, day and tier (I5)."""
    ids = _ids(history)
    totals: dict[tuple[int, str], int] = defaultdict(int)
    days: dict[tuple[int, int, str], int] = defaultdict(int)
    for e in history.ledger.entries():
        day, tier = e["period_start_us"] // DAY, e["tier"] or ""
        for path, sign in ((e["debit"], 1), (e["credit"], -1)):
            account = ids[path, e["unit"]]
            totals[account, tier] += sign * e["amount"]
            days[account, day, tier] += sign * e["amount"]
    assert _table(history, "balance") == sorted(((*k, v) for k, v in totals.items() if v), key=str)
    assert _table(history, "rollup_day") == sorted(((*k, v) for k, v in days.items() if v), key=str)


def test_models_days_and_months_are_the_fold_of_the_days(history: Bookkeeping) -> None:
    """Without versions and replicas there are fewer rows of the same amounts, also of nobody's."""
    a, r = ledger.account.c, metadata.tables["rollup_day"]
    with history.engine.connect() as connection:
        query = select(a.model, a.phase, a.role, a.unit, r.c.day, r.c.tier, r.c.amount).join(
            r, r.c.account_id == a.account_id
        )
        rows = connection.execute(query.where(a.role != "pool")).all()
    days: dict[tuple[str, str, int], int] = defaultdict(int)
    months: dict[tuple[str, int, str, str, str, str], int] = defaultdict(int)
    for model, phase, role, unit, day, tier, amount in rows:
        months[model or "", 1970 * 12, phase or "", role, unit, tier] += amount
        if model or role == "supply":
            days[model or "", unit, day] += amount
    assert days
    assert _table(history, "model_day") == sorted(((*k, v) for k, v in days.items() if v), key=str)
    assert _table(history, "model_month") == sorted(
        ((*k, v) for k, v in months.items() if v), key=str
    )


def test_usage_days_are_the_fold_of_the_windows(history: Bookkeeping) -> None:
    """Each window counts once on the day it started; FLOPs are exact, unknown ones are not 0."""
    day = {(u.version, u.day): u for u in history.facts.usage("shop")}
    assert set(day) == {(1, 0), (1, 1), (2, 0), (2, 1)}
    first, second = day[1, 0], day[1, 1]
    assert (first.windows, first.requests, first.errors, first.items) == (2, 21, 1, 41)
    assert (first.cache_hits, first.tokens_in, first.tokens_out) == (2, 200, 100)
    assert (first.busy_ns, first.flop, first.flop_windows) == (900 * 10**9, 2 * 10**20 + 1, 2)
    assert (second.flop, second.flop_windows, second.windows) == (10**20 + 2, 1, 2)
    assert (first.start_us, first.end_us) == (DAY - 2 * HOUR, DAY)
    one_day = history.facts.usage("shop", first_day=1, last_day=1)
    assert {u.day for u in one_day} == {1}


def test_rebuilding_gives_the_same_sums(history: Bookkeeping) -> None:
    """Every sum can be thrown away and made anew from entries and windows (I5)."""
    before = {name: _table(history, name) for name in SUMS}
    history.ledger.rebuild()
    assert {name: _table(history, name) for name in SUMS} == before
    with history.engine.begin() as connection:
        for name in SUMS:
            connection.execute(text(f"delete from {name}"))
    assert history.ledger.balances("shop") != []
    history.ledger.rebuild()
    assert {name: _table(history, name) for name in SUMS} == before
    assert history.ledger.first_break() is None


def test_movements_over_time_end_at_the_balance(history: Bookkeeping) -> None:
    """The chart's last point is the statement's figure, whether by charge or by day."""

    def balance() -> int:
        return sum(b.amount for b in history.ledger.balances("shop") if b.unit == "nUSD")

    assert sum(move[3] for move in history.ledger.movements("shop", "nUSD")) == balance()
    resource = Resource("serve/shop/9", "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")
    start = 9 * DAY
    history.clock.at_us = 10 * DAY
    history.post(
        resource, SupplyWindow("p", "b", 1, "serve/shop/9", start, start + HOUR, HOUR),
        UsageWindow("p", "b", 2, "serve/shop/9", start, start + HOUR, "shop", 1, "inference",
                    "serve", busy_ns=10**12),
    )  # fmt: skip
    assert sum(move[3] for move in history.ledger.movements("shop", "nUSD")) == balance()


def test_energy_of_different_tiers_is_not_mixed(history: Bookkeeping) -> None:
    """Metered and modelled energy of one account are kept apart, and sum to its balance."""
    for b in history.ledger.balances("shop"):
        if b.unit == "mJ" and b.account.role == "consumer":
            assert {tier for tier, _ in b.tiers} == {"counter_gpu", "modelled_load"}
            assert sum(amount for _, amount in b.tiers) == b.amount
