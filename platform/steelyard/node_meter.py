"""``python -m steelyard.node_meter``: the one energy meter of this node.

Reads the counters once every ``reading_interval_s``, gives each registered process its share, and
books what is left as the node's own, so that counters = shares + rest. A second meter on the node,
of this platform or another, waits until the first one is gone.
"""

import logging
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from time import time_ns
from typing import TYPE_CHECKING

from steelyard.bootstrap.counting import producer
from steelyard.bootstrap.power import metered_node, node_claim, power_board, power_meter
from steelyard.domain.energy_account import Account, Position, take, unread_uj
from steelyard.domain.errors import SteelyardError, Unavailable
from steelyard.domain.metering import BootEnd, Resource, ResourceEnd, SupplyWindow
from steelyard.domain.power import REST, Share, Snapshot, apportion
from steelyard.settings import Settings, load_settings

if TYPE_CHECKING:
    from steelyard.adapters.power.board import Board, Registration
    from steelyard.adapters.power.processes import Node
    from steelyard.adapters.spool import Producer

MISSES = 10
"""Incomplete readings in a row after which the meter gives up, to be started afresh."""
log = logging.getLogger("steelyard.node_meter")


class NodeMeter:
    """Attributes the energy of a node that this process has claimed, turn by turn."""

    def __init__(
        self, settings: Settings, node: "Node", board: "Board", writer: "Producer"
    ) -> None:
        self._settings = settings
        self._node = node
        self._board = board
        self._writer = writer
        self._meter = uuid.uuid4().hex
        self._interval_us = int(settings.reading_interval_s * 1e6)
        self._idle_w = Fraction(str(settings.node_idle_w))
        self._accounts: dict[str, Account] = {}
        self._misses = 0
        self._before = self._complete(node.snapshot(()))
        self._offset_us = time_ns() // 1_000 - self._before.at_us
        self._opened_us = self._before.at_us
        self._rest = self._new_account(self._before)
        self._position = Position(self._opened_us, self._meter)
        self._open()

    def turn(self) -> None:
        """Read, attribute, publish; close the node's window when it is long enough.

        A reading that misses a counter is passed over: the counters add up, so the next complete
        one tells for both.

        Raises:
            Unavailable: a counter has been missing for ``MISSES`` turns.
        """
        registered = self._board.producers()
        now = self._node.snapshot(process for one in registered for process in one.processes)
        if len(now.reading.counters) < len(self._node.meter.boundary):
            self._misses += 1
            if self._misses >= MISSES:
                self._complete(now)
            return
        self._misses = 0
        self._attribute(now, registered)
        self._settle(registered)
        self._before = now
        self._board.publish(self._accounts)
        if now.at_us - self._opened_us >= self._settings.meter_interval_s * 1e6:
            self._close_window()

    def stop(self) -> None:
        """Book up to the last good reading and end the node's resource."""
        self._close_window()
        who, at_us = self._writer, self._opened_us + self._offset_us
        last_seq = who.next_seq() - 1
        who.write([
            ResourceEnd(self._resource_id, at_us),
            BootEnd(who.producer_id, who.boot_id, last_seq, at_us),
        ])  # fmt: skip
        self._board.close()

    def _attribute(self, now: Snapshot, registered: "Iterable[Registration]") -> None:
        owners = {
            pid: one.key
            for one in registered
            if one.key in self._accounts
            for pid, _ in one.processes
            if pid in now.cpu_us
        }
        shares = apportion(self._before, now, owners, self._idle_w)
        self._rest = self._rest.plus(shares[REST], now.at_us)
        self._accounts = {
            # Its processes are gone, and it has not booked its last window yet.
            key: account.plus(shares.get(key, Share(0, account.method)), now.at_us)
            for key, account in self._accounts.items()
        }
        for one in registered:
            self._accounts.setdefault(one.key, self._new_account(now))

    def _settle(self, registered: "Iterable[Registration]") -> None:
        """What producers that have ended did not book is the node's."""
        for one in registered:
            if one.ended:
                account = self._accounts.pop(one.key)
                left = unread_uj(account, one.meter, one.booked_uj)
                self._rest = replace(self._rest, energy_uj=self._rest.energy_uj + left)
                self._board.forget(one.key)
        known = {one.key for one in registered}
        self._accounts = {key: one for key, one in self._accounts.items() if key in known}

    def _open(self) -> None:
        started_us = self._opened_us + self._offset_us
        self._resource_id = f"node/{socket.gethostname()}/{self._writer.boot_id}"
        self._writer.write([
            # Nothing is reserved here: the devices are paid for where they work.
            Resource(self._resource_id, "node", "node", 1, 1, "unpriced", started_us,
                     self._settings.region or None)
        ])  # fmt: skip
        self._board.publish(self._accounts)

    def _close_window(self) -> None:
        end_us = self._before.at_us
        window_us = end_us - self._opened_us
        if window_us <= 0:
            return
        metered, self._position = take(self._position, self._rest, end_us, window_us)
        start, self._opened_us = self._opened_us, end_us
        self._writer.write([
            SupplyWindow(
                self._writer.producer_id, self._writer.boot_id, self._writer.next_seq(),
                self._resource_id, start + self._offset_us, end_us + self._offset_us,
                reserved_us=0, energy_mj=metered.energy_mj, energy_method=metered.method,
                energy_boundary=metered.boundary,
            )
        ])  # fmt: skip

    def _new_account(self, now: Snapshot) -> Account:
        return Account(self._meter, now.at_us, now.at_us, self._interval_us)

    def _complete(self, now: Snapshot) -> Snapshot:
        read = {counter.domain for counter in now.reading.counters}
        missing = [domain for domain in self._node.meter.boundary if domain not in read]
        if missing:
            raise Unavailable(f"These energy counters cannot be read: {', '.join(missing)}.")
        return now


def run(settings: Settings, stop: threading.Event) -> None:
    """Meter this node until ``stop`` is set, as soon as no other process does.

    Raises:
        Unavailable: there is nothing to read, or a counter is gone.
    """
    meter = power_meter(settings)
    if not meter.boundary:
        raise Unavailable(f"No energy meter: {meter.about}.", "See docs/how-to/measure-energy.md.")
    claim, board = node_claim(settings, meter), power_board(settings, meter)
    while not claim.acquire():
        board.wait()
        if stop.wait(settings.reading_interval_s):
            board.close()
            return
    log.info("metering this node: %s", meter.about)
    writer = producer(settings, f"node:{socket.gethostname()}")
    mine = NodeMeter(settings, metered_node(meter), board, writer)
    try:
        while not stop.wait(settings.reading_interval_s):
            mine.turn()
        mine.turn()
    finally:
        mine.stop()
        claim.release()


def main() -> int:
    """Meter until SIGTERM or SIGINT; 1 when this machine cannot be metered."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run(load_settings(), stop)
    except SteelyardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
