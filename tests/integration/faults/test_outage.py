"""The database is away for an hour: facts wait on disk, and nothing is lost when it returns."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.nothing_served import NoEdge, NothingRuns

from steelyard.adapters.spool import Producer
from steelyard.adapters.sql.tables import measured
from steelyard.bootstrap import Platform
from steelyard.domain.errors import Unavailable
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.settings import Settings
from steelyard_serving.controller import Controller, run

from .conftest import Desk, Server, until

pytestmark = [pytest.mark.integration, pytest.mark.alone]

SECOND = 1_000_000
HOUR = 3_600 * SECOND


class Replica:
    """A replica that writes a window every minute of the test's time."""

    def __init__(self, spool: Path, start_us: int) -> None:
        self.writer = Producer(spool, "replica:m/1")
        self.name = f"replica/m/1/{self.writer.boot_id}"
        self.until_us = start_us
        self.writer.write([
            Resource(self.name, "replica", "generic-vcpu", 1, 1, "vcpu-hour", start_us, "DEU")
        ])  # fmt: skip

    def window(self) -> None:
        """One more window, in a segment of its own."""
        who, start = self.writer, self.until_us
        self.until_us = end = start + 60 * SECOND
        facts: list[Fact] = [
            SupplyWindow(who.producer_id, who.boot_id, who.next_seq(), self.name, start, end,
                         end - start),
            UsageWindow(who.producer_id, who.boot_id, who.next_seq(), self.name, start, end, "m",
                        1, "inference", "serve", requests=3, busy_ns=10**9),
        ]  # fmt: skip
        who.write(facts)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_hour_of_segments_waits_and_drains_in_order(
    desk: Desk, server: Server, tmp_path: Path
) -> None:
    """Collecting says what is wrong and keeps every segment; the next collection has them all."""
    desk.clock.ahead_us = 2 * HOUR
    replica = Replica(tmp_path / "spool", desk.clock.now_us() - 2 * HOUR)
    replica.window()
    desk.metering.collect()
    desk.books.post()
    server.stop()
    for _ in range(60):
        replica.window()
    with pytest.raises(Unavailable, match="does not answer") as refused:
        desk.metering.collect()
    assert "spool" in refused.value.hint
    with pytest.raises(Unavailable):
        desk.books.post()
    assert len(desk.spool.segments()) == 60
    server.start()
    assert desk.metering.collect().segments == 60
    assert desk.spool.segments() == []
    with desk.engine.connect() as connection:
        u = measured.usage_window.c
        query = select(u.seq).order_by(u.received_us, u.seq)
        assert list(connection.execute(query).scalars()) == list(range(2, 124, 2))
    desk.books.post()
    supply = {b.unit: b.amount for b in desk.ledger.balances()
              if b.account.path == f"supply:{replica.name}"}  # fmt: skip
    assert supply["device_us"] == -61 * 60 * SECOND
    assert desk.facts.completeness("m").share == 1.0
    assert desk.ledger.first_break() is None


class EmptyRegistry:
    """A registry in which nothing was registered yet."""

    def models(self) -> Sequence[str]:
        """None."""
        return ()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_controller_outlives_its_database(
    desk: Desk, database: str, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Started without a database, it waits; in an outage it says so once, and goes on after it."""
    caplog.set_level(logging.INFO, "steelyard.controller")
    replica = Replica(tmp_path / "spool", desk.clock.now_us())
    desk.engine.dispose()
    server.stop()
    url = SecretStr(database)
    settings = Settings(
        home=tmp_path, database_url=url, posting_interval_s=0.01, meter_interval_s=60
    )  # fmt: skip
    platform = Platform(settings)
    platform.__dict__["registry"] = EmptyRegistry()
    stop = threading.Event()
    controller = Controller(platform, NothingRuns(), NoEdge())
    thread = threading.Thread(target=run, args=(controller, stop, 0.02))
    thread.start()
    try:
        until("it says that the database is away", lambda: "does not answer" in caplog.text)
        server.start()
        until("it goes on", lambda: not desk.spool.segments())
        server.kill()
        for _ in range(20):
            replica.window()
        until("it says so again", lambda: caplog.text.count("does not answer") >= 2)
        assert thread.is_alive() and len(desk.spool.segments()) == 20
        server.start()
        until("it drains the spool", lambda: not desk.spool.segments())
        until("it posts", lambda: not desk.facts.unposted())
    finally:
        stop.set()
        thread.join(timeout=30)
        platform.engine.dispose()
    assert "turns work again" in caplog.text
    assert desk.facts.completeness("m").received == 40
    assert desk.ledger.first_break() is None
