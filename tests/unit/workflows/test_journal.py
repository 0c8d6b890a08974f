from pathlib import Path

import pytest

from steelyard_workflows.booking.journal import (
    Entry,
    Follower,
    OpenAttempt,
    append,
    open_attempt,
    read,
    reason,
)


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    """A reader sees whole lines."""
    path = tmp_path / "journal.jsonl"
    append(path, Entry("attempt_started", 1, 10))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event": "rep')
    assert read(path) == [Entry("attempt_started", 1, 10)]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], None),
        ([Entry("attempt_started", 1, 10)], OpenAttempt(1, 10, 10)),
        ([Entry("attempt_started", 1, 10), Entry("attempt_ended", 1, 20, "ok")], None),
        (
            [
                Entry("attempt_started", 1, 10),
                Entry("attempt_ended", 1, 20, "failed"),
                Entry("attempt_started", 2, 30),
                Entry("report", 2, 40),
            ],
            OpenAttempt(2, 30, 40),
        ),
    ],
)
def test_what_was_left_open_is_known(entries: list[Entry], expected: OpenAttempt | None) -> None:
    """A controller that vanished leaves its last attempt open, booked up to its last line."""
    assert open_attempt(entries) == expected


def test_a_follower_hands_on_every_entry_once(tmp_path: Path) -> None:
    """Also those written just before the end."""
    path, seen = tmp_path / "deep" / "journal.jsonl", list[int]()
    with Follower(path, lambda entry: seen.append(entry.attempt)):
        for attempt in range(5):
            append(path, Entry("attempt_started", attempt, attempt))
    assert seen == [0, 1, 2, 3, 4]


def test_an_error_while_following_reaches_the_driver(tmp_path: Path) -> None:
    """A tracker that is down is not swallowed by a thread."""
    path = tmp_path / "journal.jsonl"

    def handle(entry: Entry) -> None:
        raise OSError("tracker is down")

    with pytest.raises(OSError, match="tracker is down"), Follower(path, handle):
        append(path, Entry("attempt_started", 1, 1))


def test_the_reason_of_an_end_is_the_last_one_that_was_written(tmp_path: Path) -> None:
    """None when the run ended by itself; entries of older journals have no reason."""
    path = tmp_path / "journal.jsonl"
    append(path, Entry("attempt_started", 1, 1))
    append(path, Entry("report", 1, 2, metrics={"epoch": 1.0}, points=[[1, 0.5, 0.01]]))
    assert reason(read(path), "stopped", "diverged") is None
    stopped = Entry("stopped", 1, 3, reason="limits.time_s: 61 of 60 s")
    append(path, stopped)
    append(path, Entry("attempt_ended", 1, 4, "ok"))
    assert reason(read(path), "stopped", "diverged") == stopped
    assert reason(read(path), "refused") is None
