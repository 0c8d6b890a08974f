"""The files between a node's meter and its producers, and the claim on the node."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from steelyard.adapters.power.board import Board, EnergyAccount, Registration, meter_state
from steelyard.adapters.power.claim import BOOT, NodeClaim, places
from steelyard.adapters.power.joined import AbsentMeter
from steelyard.adapters.power.processes import Node, boot_id, identified, runs
from steelyard.domain.energy_account import UNKNOWN

MINUTE_US = 60_000_000


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A meter's side that has spoken within its interval of a minute."""
    made = Board(tmp_path, "RAPL (package-0)", MINUTE_US)
    made.publish({})
    return made


@pytest.fixture
def asleep() -> Iterator[subprocess.Popen[bytes]]:
    """A process of our own that does nothing; its name has a blank and a bracket."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def put(folder: Path, registration: Registration) -> None:
    """A producer's file."""
    (folder / f"{registration.key}.producer").write_text(json.dumps(asdict(registration)))


def test_a_producer_registers_once_and_leaves_when_it_ends(board: Board, tmp_path: Path) -> None:
    """The meter sees its processes, then that it has ended, and forgets it."""
    account = EnergyAccount(tmp_path, [os.getpid()])
    (one,) = board.producers()
    assert (one.processes, one.ended) == (identified([os.getpid()]), False)
    account.close()
    (one,) = board.producers()
    assert one.ended
    board.forget(one.key)
    assert board.producers() == []


def test_a_producer_that_waits_for_a_meter_finds_it_later(tmp_path: Path) -> None:
    """No file as long as no meter works here; from then on the next window registers."""
    account = EnergyAccount(tmp_path, [os.getpid()])
    assert account.take(MINUTE_US) == UNKNOWN
    waiting = Board(tmp_path, "RAPL (package-0)", MINUTE_US)
    waiting.wait()
    assert account.take(MINUTE_US) == UNKNOWN
    assert waiting.producers() == []
    waiting.publish({})
    assert account.take(MINUTE_US) == UNKNOWN
    assert len(waiting.producers()) == 1


def test_processes_on_another_machine_are_not_metered(board: Board, tmp_path: Path) -> None:
    """Nothing to watch here: no file, no figure."""
    assert EnergyAccount(tmp_path, []).take(MINUTE_US) == UNKNOWN
    assert board.producers() == []


def test_a_killed_producer_counts_as_ended(
    board: Board, tmp_path: Path, asleep: subprocess.Popen[bytes]
) -> None:
    """Its last word is what it had booked; the meter need not wait for more."""
    (process,) = identified([asleep.pid])
    put(tmp_path, Registration("k", boot_id(), process, (process,), "m", 7_000))
    assert [one.ended for one in board.producers()] == [False]
    asleep.kill()
    asleep.wait()
    assert [(one.ended, one.booked_uj) for one in board.producers()] == [(True, 7_000)]


def test_another_nodes_producers_are_let_be(board: Board, tmp_path: Path) -> None:
    """A shared home: process ids of another machine mean nothing here."""
    (process,) = identified([os.getpid()])
    put(tmp_path, Registration("k", "another-boot", process, (process,)))
    assert board.producers() == []
    assert (tmp_path / "k.producer").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "k"}', '{"of": "another version"}'])
def test_a_file_that_cannot_be_understood_is_no_file(
    board: Board, tmp_path: Path, text: str
) -> None:
    """Neither the meter nor a replica stops because of what another version wrote."""
    (tmp_path / "k.producer").write_text(text)
    (tmp_path / "meter.json").write_text(text)
    assert board.producers() == []
    assert meter_state(tmp_path) is None
    assert EnergyAccount(tmp_path, [os.getpid()]).take(MINUTE_US) == UNKNOWN


def test_a_meter_that_was_killed_is_not_working(board: Board, tmp_path: Path) -> None:
    """It leaves its file behind; nobody takes an old word for a working meter."""
    state = meter_state(tmp_path)
    assert state is not None
    assert state.metering
    old = replace(state, at_us=state.at_us - 10 * MINUTE_US)
    (tmp_path / "meter.json").write_text(json.dumps(asdict(old)))
    assert meter_state(tmp_path) is None


def test_an_id_that_is_used_again_is_another_process(asleep: subprocess.Popen[bytes]) -> None:
    """A process is its id and its start."""
    ((pid, started),) = identified([asleep.pid])
    assert runs((pid, started))
    assert not runs((pid, started + 1))
    asleep.kill()
    asleep.wait()
    assert identified([pid]) == ()


def test_a_snapshot_holds_the_cpu_time_of_those_that_run(asleep: subprocess.Popen[bytes]) -> None:
    """Of the node and of each process; one that is gone is left out."""
    node = Node(AbsentMeter("none"), lambda: 5)
    mine = identified([os.getpid()])
    gone = identified([asleep.pid])
    asleep.kill()
    asleep.wait()
    snapshot = node.snapshot([*mine, *gone])
    assert set(snapshot.cpu_us) == {os.getpid()}
    assert 0 < snapshot.cpu_us[os.getpid()] <= snapshot.busy_us
    assert (snapshot.at_us, snapshot.reading.counters) == (5, ())


def test_what_is_locked_is_the_hardware(tmp_path: Path) -> None:
    """Processors by their tree, GPUs by the boot of the machine; the same for every home."""
    assert places(("package-0", "package-0/dram"), tmp_path) == (tmp_path,)
    assert places(("gpu:A",), tmp_path) == (BOOT,)
    assert places(("package-0", "gpu:A"), tmp_path) == (tmp_path, BOOT)


def test_a_claim_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """Who cannot have the second place gives the first one back."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    holder, other, third = NodeClaim([second]), NodeClaim([first, second]), NodeClaim([first])
    assert holder.acquire()
    assert not other.acquire()
    assert third.acquire()
    holder.release()
    third.release()
    assert other.acquire()
    other.release()
    assert NodeClaim([]).acquire() is False
