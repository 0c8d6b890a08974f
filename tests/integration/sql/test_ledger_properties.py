"""What holds whatever was measured, in whatever order it arrived (invariants I1-I8, I11).

``LEDGER_EXAMPLES`` sets how many histories each property tries on each database.
"""

import os
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.tables import ledger
from steelyard.domain.errors import Refused
from steelyard.domain.facts import Fact
from steelyard.domain.ledger import QUANTITIES
from steelyard.domain.metering import BootEnd, Resource, SupplyWindow, UsageWindow

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
JANUARY = 31 * 24 * HOUR
UNITS = ("device_us", "nUSD", "mJ", "ugCO2e_loc")
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "8"))
property_test = settings(
    max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@dataclass(frozen=True)
class History:
    """Facts of two resources; ``supplied`` is what each reserved, in device-microseconds."""

    resources: tuple[Resource, ...]
    windows: tuple[Fact, ...]
    supplied: dict[str, int]


@st.composite
def _replica(draw: st.DrawFn, number: int, near_us: int) -> tuple[Resource, list[Fact]]:
    known = draw(st.booleans())
    resource = Resource(
        f"serve/r{number}/0", "replica", "gpu" if known else "unlisted", draw(st.integers(1, 3)),
        draw(st.integers(1, 2)), draw(st.sampled_from(["gpu-hour", "dime-hour", "unlisted"])), 0,
        draw(st.sampled_from(["DEU", None])),
    )  # fmt: skip
    name, facts, seq = resource.resource_id, list[Fact](), 0
    at = near_us - draw(st.integers(0, HOUR))
    tenants = draw(st.sampled_from([[("a", 1)], [("a", 1), ("b", 1)], [("a", 1), ("a", 2)]]))
    for _ in range(draw(st.integers(1, 4))):
        end = at + draw(st.integers(2, 2_500 * SECOND))  # inferred ones start a microsecond later
        energy = draw(st.none() | st.integers(0, 10**9))
        seq += 1
        facts.append(SupplyWindow(
            name, "boot", seq, name, at, end, (end - at) * resource.device_count,
            draw(st.none() | st.integers(0, end - at)), energy,
            "unknown" if energy is None else "counter_cpu",
        ))  # fmt: skip
        for model, version in draw(st.lists(st.sampled_from(tenants), unique=True)):
            seq += 1
            facts.append(UsageWindow(
                name, "boot", seq, name, at, end, model, version, "inference", "serve",
                requests=draw(st.integers(0, 9)), busy_ns=draw(st.integers(0, 3_000 * 10**9)),
                flop=draw(st.none() | st.integers(0, 10**25)),
            ))  # fmt: skip
        at = end
    facts.append(BootEnd(name, "boot", seq, at))
    return resource, facts


@st.composite
def _histories(draw: st.DrawFn, near_us: int = 5 * HOUR) -> History:
    replicas = [draw(_replica(number, near_us)) for number in range(2)]
    supplied = {
        resource.resource_id: sum(f.reserved_us for f in facts if isinstance(f, SupplyWindow))
        for resource, facts in replicas
    }
    windows = [fact for _, facts in replicas for fact in facts]
    return History(tuple(resource for resource, _ in replicas), tuple(windows), supplied)


def _at_once(books: Bookkeeping, facts: Sequence[Fact]) -> None:
    books.clock.at_us = 20 * HOUR
    books.post(*facts)


def _end_silent(books: Bookkeeping) -> None:
    """Hours after the last window: whoever did not end is thought dead."""
    books.metering.close_silent(60.0)
    books.books.post()


def _in_parts(books: Bookkeeping, history: History, chance: random.Random) -> None:
    """Shuffled, some twice, a few rows a report, posted after each; thought dead in between."""
    books.clock.at_us = 20 * HOUR
    facts = [*history.windows, *chance.choices(history.windows, k=4)]
    chance.shuffle(facts)
    books.post(*history.resources)
    while facts:
        books.post(*(facts.pop() for _ in range(min(len(facts), chance.randint(1, 4)))))
        books.clock.at_us += SECOND
        if chance.random() < 0.3:
            _end_silent(books)


def _balances(books: Bookkeeping) -> list[Any]:
    """Every balance with its account's owner, and by tier; accounts at 0 left out."""
    return [b for b in books.ledger.balances() if b.amount or b.tiers]


def _sums(books: Bookkeeping) -> dict[str, list[tuple[Any, ...]]]:
    """The sums that reports read, by account path."""
    a, r = ledger.account, projections.rollup_day
    with books.engine.connect() as connection:
        days = connection.execute(
            select(a.c.path, a.c.unit, r.c.day, r.c.tier, r.c.amount)
            .join(a, a.c.account_id == r.c.account_id)
            .where(r.c.amount != 0)
        )
        found = {"rollup_day": sorted(map(tuple, days), key=str)}
        for table in (projections.usage_day, projections.boot):
            found[table.name] = sorted(map(tuple, connection.execute(select(table))), key=str)
    return found


def _contents(books: Bookkeeping) -> list[str]:
    return sorted(str(entry["content_sha256"]) for entry in books.ledger.entries())


@property_test
@given(_histories())
def test_supply_is_its_uses_per_resource_and_hour_to_the_last_unit(
    new_books: Callable[[], Bookkeeping], history: History
) -> None:
    """Debits equal credits, the pool is empty, and what is not known has no entry (I1-I3, I11)."""
    books = new_books()
    _at_once(books, [*history.resources, *history.windows])
    moved: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for e in books.ledger.entries():
        given, used = (e["credit"], e["debit"]), e["period_start_us"]
        for side, path in enumerate(given):
            if path.startswith("pool:"):
                moved[path, e["unit"], used][1 - side] += e["amount"]
    assert all(into == out for into, out in moved.values())
    for resource in history.resources:
        name = resource.resource_id
        assert books.balances("device_us")[f"supply:{name}"] == -history.supplied[name]
        money = f"supply:{name}" in books.balances("nUSD")
        assert money <= (resource.price_sku != "unlisted")
        metered = any(isinstance(f, SupplyWindow) and f.resource_id == name and f.energy_mj
                      for f in history.windows)  # fmt: skip
        energy = f"supply:{name}" in books.balances("mJ")
        assert energy <= (metered or resource.device_model == "gpu")
        assert resource.region or f"supply:{name}" not in books.balances("ugCO2e_loc")
    assert all(sum(books.balances(unit).values()) == 0 for unit in UNITS)
    assert not any(books.roles(unit).get("pool") for unit in UNITS)
    assert books.ledger.first_break() is None


@property_test
@given(_histories(), st.randoms(use_true_random=False))
def test_a_replayed_and_shuffled_report_makes_identical_entries_and_sums(
    new_books: Callable[[], Bookkeeping], history: History, chance: random.Random
) -> None:
    """Posted at once: the same content, digest for digest; a replay adds nothing (A15, I4)."""
    first, second = new_books(), new_books()
    facts = [*history.resources, *history.windows]
    shuffled = facts * 3
    chance.shuffle(shuffled)
    _at_once(first, facts)
    _at_once(second, shuffled)
    assert _contents(first) == _contents(second)
    assert _sums(first) == _sums(second)
    head = first.ledger.head()
    assert first.post(*shuffled) == 0
    assert first.ledger.head() == head


@property_test
@given(_histories(), st.randoms(use_true_random=False))
def test_late_usage_in_any_order_ends_in_the_same_balances(
    new_books: Callable[[], Bookkeeping], history: History, chance: random.Random
) -> None:
    """Row by row, posted in between, some twice: owners, tiers and days as if in time (I4, I5).

    Resources that seem dead meanwhile, and are not, come back.
    """
    at_once, in_parts = new_books(), new_books()
    _at_once(at_once, [*history.resources, *history.windows])
    _in_parts(in_parts, history, chance)
    _end_silent(at_once)
    _end_silent(in_parts)
    assert _balances(in_parts) == _balances(at_once)
    assert _sums(in_parts) == _sums(at_once)
    assert in_parts.books.post() == 0
    before = _sums(in_parts), _balances(in_parts)
    in_parts.ledger.rebuild()
    assert (_sums(in_parts), _balances(in_parts)) == before
    assert in_parts.ledger.first_break() is None


@property_test
@given(_histories(), st.integers(0, 10**12))
def test_valuing_anew_leaves_quantities_and_taking_all_back_leaves_nothing(
    new_books: Callable[[], Bookkeeping], history: History, price_nano: int
) -> None:
    """Energy and time survive a new price; every batch reverses once, to 0 (I6, I8, A17)."""
    books = new_books()
    _at_once(books, [*history.resources, *history.windows])
    measured = [b for b in _balances(books) if b.unit in QUANTITIES]
    books.price("gpu-hour", price_nano, recorded_us=1)
    books.books.value_anew(0, JANUARY)
    assert [b for b in _balances(books) if b.unit in QUANTITIES] == measured
    standing = {
        e["batch_id"] for e in books.ledger.entries()
        if (batch := books.ledger.batch(e["batch_id"])) and not batch.reversed
        and batch.method_id != "reversal"
    }  # fmt: skip
    for batch_id in sorted(standing):
        assert books.books.reverse(batch_id, "all of it", "ada") > 0
        with pytest.raises(Refused):
            books.books.reverse(batch_id, "again", "ada")
    assert _balances(books) == []
    assert books.ledger.first_break() is None


@property_test
@given(_histories(near_us=JANUARY), st.randoms(use_true_random=False))
def test_a_closed_month_never_changes_and_what_is_late_is_corrected_later(
    new_books: Callable[[], Bookkeeping], history: History, chance: random.Random
) -> None:
    """Around the turn of a month: corrections keep their charge period (I7, A17)."""
    books, whole = new_books(), new_books()
    facts = list(history.windows)
    chance.shuffle(facts)
    in_time, late = facts[: len(facts) // 2], facts[len(facts) // 2 :]
    books.clock.at_us = whole.clock.at_us = JANUARY + 20 * HOUR
    books.post(*history.resources, *in_time)
    closed = [p.period_id for p in books.periods.all() if p.period_id == "1970-01"]
    for period_id in closed:
        books.books.close(period_id, "ada")
    before = [e for e in books.ledger.entries() if e["period_id"] in closed]
    for fact in late:
        books.post(fact)
        if chance.random() < 0.3:
            _end_silent(books)
    _end_silent(books)
    assert [e for e in books.ledger.entries() if e["period_id"] in closed] == before
    for e in books.ledger.entries(len(before) + 1):
        batch = books.ledger.batch(e["batch_id"])
        assert batch is not None
        assert (batch.kind == "correction") == (e["period_start_us"] < JANUARY and bool(closed))
    whole.post(*history.resources, *history.windows)
    _end_silent(whole)
    assert _balances(books) == _balances(whole)
    assert books.ledger.first_break() is None
