"""Kill -9 of whoever produces, posts or stores, again and again, and what must still hold.

``STEELYARD_FAULTS`` sets the number of kills on each database, ``STEELYARD_FAULTS_SEED`` the seed.
"""

import os
import random
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from steelyard.adapters.spool import Producer
from steelyard.adapters.sql import projections
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.cost import charges
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow

from .conftest import Crew, Desk, Server

pytestmark = [pytest.mark.integration, pytest.mark.alone]

FAULTS = int(os.environ.get("STEELYARD_FAULTS", "26"))
PRODUCERS = ("producer-1", "producer-2")
CREW = ("poster", *PRODUCERS)


def test_whoever_is_killed_nothing_is_lost_or_doubled(
    desk: Desk, crew: Crew, chance: random.Random, request: pytest.FixtureRequest
) -> None:
    """The chain holds, cost is complete, every row that reached the disk is in, once (A25)."""
    server = request.getfixturevalue("server") if "postgresql" in request.node.name else None
    victims = Counter[str]()
    for name in CREW:
        crew.start(name)
    for _ in range(FAULTS):
        time.sleep(chance.uniform(0.0, 0.12))  # the moment of the fault, not a wait for anything
        # The poster more often than a replica, the database, which takes a second, less often.
        names = [*CREW, *CREW, "poster", "server" if server else "poster"]
        _strike(crew, server, chance.choice(names), victims)
    crew.end()
    assert set(victims) >= {"poster"} and sum(victims.values()) == FAULTS
    _settle(desk)
    _assert_complete(desk, crew, killed=sum(victims[name] for name in PRODUCERS))
    _assert_exact(desk)


def test_a_poster_may_die_before_any_of_its_statements(
    desk: Desk, crew: Crew, chance: random.Random, tmp_path: Path
) -> None:
    """Before a statement or a commit, whichever: the next poster goes on where it stopped."""
    writer = Producer(tmp_path / "spool", "replica:m/1")
    start = desk.clock.now_us() - 3_600_000_000
    name = f"replica/m/1/{writer.boot_id}"
    writer.write([Resource(name, "replica", "generic-vcpu", 1, 1, "vcpu-hour", start, "DEU")])
    for _ in range(FAULTS):
        for _ in range(3):
            end = start + chance.randint(1, 20_000_000)
            own = (writer.producer_id, writer.boot_id)
            writer.write([
                SupplyWindow(*own, writer.next_seq(), name, start, end, end - start),
                UsageWindow(*own, writer.next_seq(), name, start, end, "m", 1, "inference",
                            "serve", requests=1, busy_ns=chance.randint(0, (end - start) * 1_000)),
            ])  # fmt: skip
            start = end
        crew.start("poster", die_at=chance.randint(1, 60))
        crew.wait_for_death("poster")
    writer.write([writer.boot_end(start)])
    _settle(desk)
    assert sum(day.requests for day in desk.facts.usage("m")) == 3 * FAULTS
    assert desk.facts.completeness("m").share == 1.0
    _assert_exact(desk)


def _strike(crew: Crew, server: Server | None, victim: str, victims: Counter[str]) -> None:
    victims[victim] += 1
    if victim == "server":
        assert server is not None
        server.kill()
        server.start()
        return
    crew.kill(victim)
    crew.start(victim)


def _settle(desk: Desk) -> None:
    """What a controller does once all is quiet: drain, end the silent, post."""
    desk.metering.collect()
    desk.clock.ahead_us = 3_600_000_000
    desk.metering.close_silent(1.0)
    desk.books.post()
    assert list(desk.spool.segments()) == []
    assert desk.facts.unposted() == [] and desk.facts.late() == []
    assert desk.facts.silent_resources(desk.clock.now_us()) == []


def _assert_complete(desk: Desk, crew: Crew, killed: int) -> None:
    """Rows arrive without a gap; only boots that were killed are open, and said to be."""
    found = desk.facts.completeness("m")
    assert found.share == 1.0
    with desk.engine.connect() as connection:
        boots = connection.execute(select(projections.boot)).all()
        ends = connection.execute(select(measured.boot_end)).all()
    said = {end.boot_id for end in ends}
    assert all(boot.received == boot.highest_seq for boot in boots)
    assert len(crew.tallies) == killed + len(PRODUCERS)
    assert len(said) >= len(PRODUCERS)
    counted = sum(day.requests for day in desk.facts.usage("m"))
    assert 0 < counted <= crew.asked()
    if not killed:
        assert counted == crew.asked()


def _assert_exact(desk: Desk) -> None:
    """Every window is charged once, to the nano; every resource from its start to its end."""
    assert desk.ledger.first_break() is None
    windows = defaultdict(list)
    with desk.engine.connect() as connection:
        resources = {r.resource_id: r for r in connection.execute(select(measured.resource))}
        ends = {
            r.resource_id: r.ended_us for r in connection.execute(select(measured.resource_end))
        }
        inferred = {r.idem_key: r for r in connection.execute(select(measured.inferred_window))}
        query = select(measured.supply_window).order_by(measured.supply_window.c.window_start_us)
        for row in connection.execute(query):
            windows[row.resource_id].append(row)
        once = connection.execute(select(ledger.posted_window.c.idem_key)).scalars().all()
    assert sorted(once) == sorted(w.idem_key for own in windows.values() for w in own)
    balances = {(b.account.path, b.unit): b.amount for b in desk.ledger.balances()}
    book = desk.catalog.rate_book(desk.clock.now_us())
    for name, resource in resources.items():
        own = windows[name]
        # An inferred window leaves a microsecond out.
        edges = [(w.window_start_us - (w.idem_key in inferred), w.window_end_us) for w in own]
        end_us = ends.get(name, own[-1].window_end_us)
        assert (name in ends) != (own[-1].idem_key in inferred)
        assert edges[0][0] == resource.started_us and edges[-1][1] == end_us
        assert all(left[1] == right[0] for left, right in pairwise(edges))
        cost = sum(
            charge.amount_nano for w in own
            for charge in charges(
                book.prices(resource.price_sku), resource.price_sku, w.window_start_us,
                w.window_end_us, resource.device_count, book.as_of_us,
            ) or ()
        )  # fmt: skip
        reserved_us = end_us - resource.started_us - (name not in ends)
        assert balances[f"supply:{name}", "device_us"] == -reserved_us
        assert balances[f"supply:{name}", "nUSD"] == -cost
    for unit in ("device_us", "nUSD", "mJ"):
        assert sum(amount for (_, u), amount in balances.items() if u == unit) == 0
    assert not any(amount for (path, _), amount in balances.items() if path.startswith("pool:"))
