"""What a run has to say waits on disk, goes out in order, and is forgotten when it is said."""

import threading
from pathlib import Path

import pytest

from steelyard.domain.errors import Refused, Unavailable
from steelyard_workflows.tracking import outbox
from steelyard_workflows.tracking.outbox import Item, Sender


class Tracker:
    """A tracker that can be away, and refuses what it is told to."""

    def __init__(self) -> None:
        self.away = False
        self.refuses = -1
        self.heard: list[int] = []

    def take(self, item: Item) -> None:
        """One line."""
        if self.away:
            raise Unavailable("Nobody answers.")
        if item.values["n"] == self.refuses:
            raise Refused("not this one.")
        self.heard.append(item.values["n"])


@pytest.fixture
def tracker() -> Tracker:
    """One that answers."""
    return Tracker()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a run's outbox is."""
    return tmp_path / "run" / outbox.FILE


def _put(path: Path, *numbers: int) -> None:
    for n in numbers:
        outbox.put(path, Item("metrics", {"n": n}))


def test_lines_go_out_once_and_in_order(path: Path, tracker: Tracker) -> None:
    """Also when a process that sent half of them was followed by another one."""
    _put(path, 1, 2)
    assert outbox.drain(path, tracker.take) == 2
    _put(path, 3, 4)
    assert outbox.drain(path, tracker.take) == 2
    assert outbox.drain(path, tracker.take) == 0
    assert tracker.heard == [1, 2, 3, 4]


def test_nothing_is_lost_while_nobody_answers(path: Path, tracker: Tracker) -> None:
    """What was said meanwhile follows in its order."""
    _put(path, 1)
    tracker.away = True
    with pytest.raises(Unavailable):
        outbox.drain(path, tracker.take)
    _put(path, 2)
    assert outbox.unsent(path) > 0
    tracker.away = False
    outbox.drain(path, tracker.take)
    assert (tracker.heard, outbox.unsent(path)) == ([1, 2], 0)


def test_a_line_that_is_being_written_waits(path: Path, tracker: Tracker) -> None:
    """Half a line is no line; the rest of it may follow."""
    _put(path, 1)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"kind": "metrics", ')
    outbox.drain(path, tracker.take)
    with path.open("a", encoding="utf-8") as file:
        file.write('"values": {"n": 2}}\n')
    outbox.drain(path, tracker.take)
    assert tracker.heard == [1, 2]


def test_a_line_that_is_refused_does_not_block_the_others(
    path: Path, tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said on stderr."""
    _put(path, 1, 2, 3)
    tracker.refuses = 2
    outbox.drain(path, tracker.take)
    assert tracker.heard == [1, 3]
    assert "not tracked: not this one." in capsys.readouterr().err


def test_of_two_processes_one_sends(path: Path) -> None:
    """The other one leaves the outbox alone."""
    _put(path, 1)
    with outbox.claimed(path) as first, outbox.claimed(path) as second:
        assert (first, second) == (True, False)
    with outbox.claimed(path) as again:
        assert again


def test_an_outbox_that_is_done_leaves_nothing(path: Path, tracker: Tracker) -> None:
    """Neither files nor an empty folder; one that is begun again starts from its first line."""
    _put(path, 1)
    outbox.drain(path, tracker.take)
    outbox.remove(path)
    assert not path.parent.exists()
    _put(path, 2)
    outbox.drain(path, tracker.take)
    assert tracker.heard == [1, 2]


def test_checkpoints_beside_an_outbox_stay(path: Path, tracker: Tracker) -> None:
    """Only what was to be sent is removed."""
    _put(path, 1)
    outbox.drain(path, tracker.take)
    (path.parent / "checkpoint_1").mkdir()
    outbox.remove(path)
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint_1"]


def test_a_run_hears_of_an_outage_once_and_of_its_end(
    path: Path, tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on meanwhile; at its end it waits for what is left."""
    tracker.away = True
    sender = Sender(path, tracker.take)
    try:
        _put(path, 1, 2)
        assert not sender.wait(0.5)
        tracker.away = False
        assert sender.wait(30)
    finally:
        sender.close()
    assert tracker.heard == [1, 2]
    said = capsys.readouterr().err
    assert said.count("The run goes on") == 1
    assert "answers again: 2 entries sent" in said


def test_a_sender_that_cannot_go_on_is_not_waited_for(path: Path) -> None:
    """A damaged file is no outage: waiting would not mend it."""
    path.parent.mkdir()
    path.write_text("no JSON\n", encoding="utf-8")
    sender = Sender(path, lambda item: None)
    assert not sender.wait(60)
    sender.close()


def test_many_threads_write_whole_lines(path: Path, tracker: Tracker) -> None:
    """The journal's follower, the sampler and the driver speak at once."""
    threads = [
        threading.Thread(target=_put, args=(path, *range(n * 10, n * 10 + 10))) for n in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    outbox.drain(path, tracker.take)
    assert sorted(tracker.heard) == list(range(40))
