"""What a run has to say to the experiment tracker, on disk until the tracker has taken it.

Append-only JSON lines beside the run's checkpoints. Whatever speaks for the run appends; one
sender takes the lines in order, and remembers behind which byte it goes on. A tracker that is
away stops the sender, never the training. A crash between sending and remembering sends one line
again, so what a line says must be harmless when it is said twice.
"""

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from steelyard.cli.output import note
from steelyard.domain.errors import Refused, Unavailable

Kind = Literal["params", "tags", "metrics", "dataset", "artifact", "end"]
FILE = "outbox.jsonl"
FILES = "outbox"
"""The folder beside an outbox for files that it sends."""
POLL_S = 0.2
REMIND_S = 60.0
_appending = threading.Lock()


@dataclass(frozen=True, slots=True)
class Item:
    """One line: what kind of thing is said, and its values as JSON."""

    kind: Kind
    values: dict[str, Any] = field(default_factory=dict)


Send = Callable[[Item], None]
"""Says one thing; raises Unavailable when nobody answers, Refused when it is not taken."""


def put(path: Path, item: Item) -> None:
    """Add a line, whole and on disk. Safe from any thread."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _appending, path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(item)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def unsent(path: Path) -> int:
    """Bytes that wait; 0 when there is no outbox."""
    return max(0, _size(path) - _sent(path))


def ended(path: Path) -> bool:
    """Whether the run has said how it ended."""
    return any(item.kind == "end" for item, _ in _items(path, 0))


def remove(path: Path) -> None:
    """Forget an outbox of which everything is sent, and its folder if that holds nothing else."""
    # The mark first: left alone, it would skip lines of an outbox that is begun later.
    _mark(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    shutil.rmtree(path.parent / FILES, ignore_errors=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """The right to send an outbox; False while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        yield _lock(file)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def drain(path: Path, send: Send) -> int:
    """Send what waits, in order; how many lines.

    A line that is refused is said on stderr and passed over: it would block the others for ever.

    Raises:
        Unavailable: nobody answers; the rest waits.
    """
    count = 0
    for item, end in _items(path, _sent(path)):
        try:
            send(item)
        except Refused as refused:
            note(f"  not tracked: {refused}")
        _remember(path, end)
        count += 1
    return count


def _items(path: Path, offset: int) -> Iterator[tuple[Item, int]]:
    """Complete lines from ``offset`` on, each with the offset behind it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield Item(**json.loads(line)), offset


def _mark(path: Path) -> Path:
    return path.with_suffix(".sent")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sent(path: Path) -> int:
    mark = _mark(path)
    return int(mark.read_text()) if mark.exists() else 0


def _remember(path: Path, offset: int) -> None:
    draft = _mark(path).with_suffix(".draft")
    draft.write_text(str(offset))
    draft.replace(_mark(path))


class Sender:
    """Sends an outbox from a thread while a run goes on, and says when it cannot."""

    def __init__(self, path: Path, send: Send) -> None:
        self._path = path
        self._send = send
        self._away: Unavailable | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def wait(self, patience_s: float) -> bool:
        """Wait until everything is sent, at most so many seconds; whether it is.

        Raises:
            KeyboardInterrupt: somebody does not want to wait; nothing is lost by it.
        """
        end, reminded = time.monotonic() + patience_s, time.monotonic()
        while unsent(self._path):
            now = time.monotonic()
            if now >= end or not self._thread.is_alive():
                return False
            if self._away is not None and now - reminded >= REMIND_S:
                note(f"  still waiting, {(end - now) / 60:.0f} minutes more: {self._away.message}")
                reminded = now
            self._closing.wait(POLL_S)
        return True

    def close(self) -> None:
        """Send nothing more. A call that is under way is not waited for."""
        self._closing.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._closing.wait(POLL_S):
            try:
                self._turn()
            except Exception as error:  # a thread that dies silently would look like an outage
                note(f"  the tracker cannot be told: {type(error).__name__}: {error}")
                return

    def _turn(self) -> None:
        try:
            count = drain(self._path, self._send)
        except Unavailable as error:
            if self._away is None:
                note(f"  {error.message} The run goes on; what it has to say waits on disk.")
            self._away = error
            self._closing.wait(1.0)
            return
        if self._away is not None and count:
            note(f"  the registry answers again: {count} entries sent")
            self._away = None
