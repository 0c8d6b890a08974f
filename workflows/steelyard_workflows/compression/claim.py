"""One maker a recipe: of two that start at once, one makes the variant and the other is told."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steelyard.bootstrap.registry import registry
from steelyard.domain.errors import Conflict, NotFound, Refused, Unavailable
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.compression.order import Order

ROOM = 8
"""Files of the parent's size that a compression writes at most, all of them together."""
SPARE_BYTES = 64 * 2**20
"""For the tracker's and the ledger's own lines."""


def registered(order: Order, settings: Settings) -> ModelVersion | None:
    """The version that was already made by this very recipe; None: there is none."""
    version = order.source.version
    same = [v for v in registry(settings).versions(version.model)
            if v.recipe_sha256 == order.sha256 and v.parent == version.version]  # fmt: skip
    return same[-1] if same else None


@contextmanager
def claimed(order: Order, settings: Settings) -> Iterator[Path]:
    """An empty folder to work in, ours alone until the block ends; it is gone afterwards.

    What a killed maker left in it is deleted: the lock ends with its process.

    Raises:
        Conflict: another process is making the same.
        Refused: there is no room for it.
    """
    home = settings.run_dir / "compressions"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / f"{order.sha256}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(order, lock.name) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        folder = home / order.sha256
        shutil.rmtree(folder, ignore_errors=True)
        _check_room(order, home)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _taken(order: Order, lock: str) -> Conflict:
    who = Path(lock).read_text(encoding="utf-8").strip()
    return Conflict(
        f"{order.kind} of {order.source.version.name} is being made by process {who or '?'}.",
        "Wait for it: the same recipe gives the same variant.",
    )


def _check_room(order: Order, home: Path) -> None:
    needed = ROOM * order.source.path.stat().st_size + SPARE_BYTES
    free = shutil.disk_usage(home).free
    if free < needed:
        raise Refused(
            f"{order.kind} of {order.source.version.name} takes up to {needed:,} bytes in {home}, "
            f"{free:,} are free.",
            "Make room, or set STEELYARD_HOME to a larger disk.",
        )


def check_parent(order: Order, settings: Settings) -> None:
    """The parent may have been deleted while its variant was made.

    Raises:
        Refused: it is gone, or is another one now.
    """
    before = order.source.version
    try:
        now = registry(settings).version(before.model, before.version)
    except NotFound as error:
        raise Refused(
            f"{before.name} was deleted while {order.kind} of it was made; nothing was registered.",
        ) from error
    if now.sha256 != before.sha256:
        raise Refused(f"{before.name} is another version by now; nothing was registered.")


def no_room(error: OSError, order: Order) -> Unavailable:
    """What a write that failed in the middle means."""
    return Unavailable(
        f"{order.kind} of {order.source.version.name} could not be written: {error}. "
        "Nothing was registered; what it cost so far is booked.",
        "Make room and start it again.",
    )
