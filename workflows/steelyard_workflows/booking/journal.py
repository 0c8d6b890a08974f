"""The journal of one run: what its controller did, line by line, for the driver to follow.

The controller of a Ray Train run is another process on the driver's machine. It appends; the
driver shows progress, logs metrics, and, when the controller is gone, knows what was left open.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from steelyard.domain.metering import Outcome
from steelyard_workflows.beside import Beside

Event = Literal[
    "attempt_started", "report", "checkpoint", "window", "stopped", "diverged", "refused",
    "attempt_ended",
]  # fmt: skip
FILE = "journal.jsonl"
"""What a run's journal is called, beside its checkpoints."""
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. ``at_us`` is also the moment up to which the attempt is booked.

    ``points`` are (step, training loss, learning rate) since the line before that has some;
    ``reason`` says why the run was stopped, diverged or was refused by a worker.
    """

    event: Event
    attempt: int
    at_us: int
    outcome: Outcome | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    points: Sequence[Sequence[float]] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt whose end nobody has written: started, and booked until."""

    attempt: int
    started_us: int
    booked_until_us: int


def append(path: Path, entry: Entry) -> None:
    """Add a line; a reader sees it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(entry)) + "\n")


def read(path: Path) -> list[Entry]:
    """All complete lines; none when the controller has not started."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [Entry(**json.loads(line)) for line in whole.splitlines()]


def open_attempt(entries: Sequence[Entry]) -> OpenAttempt | None:
    """The attempt that was started and not ended; None when all is closed.

    >>> open_attempt([Entry("attempt_started", 1, 10), Entry("report", 1, 30)])
    OpenAttempt(attempt=1, started_us=10, booked_until_us=30)
    """
    if not entries or entries[-1].event == "attempt_ended":
        return None
    last = entries[-1]
    started = next(e for e in entries if e.attempt == last.attempt)
    return OpenAttempt(last.attempt, started.at_us, last.at_us)


def reason(entries: Sequence[Entry], *events: Event) -> Entry | None:
    """The last line that says why the run ended as it did; None when it ended by itself."""
    return next((entry for entry in reversed(entries) if entry.event in events), None)


class Follower(Beside):
    """Hands each new entry to ``handle`` from a thread, until the block ends.

    An error in ``handle`` ends the following and is raised when the block ends well.
    """

    def __init__(self, path: Path, handle: Callable[[Entry], None]) -> None:
        super().__init__("journal")
        self._path = path
        self._handle = handle
        self._seen = 0
        self._error: Exception | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._done.wait(POLL_S):
                self._turn()
            self._turn()
        except Exception as error:  # it is raised in the driver, see __exit__
            self._error = error

    def _turn(self) -> None:
        entries = read(self._path)
        for entry in entries[self._seen :]:
            self._handle(entry)
        self._seen = len(entries)
